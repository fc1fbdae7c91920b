"""Aliases: the movable pointers at the immutable versions of one model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Alias = Literal["serving", "previous", "candidate", "anchor"]
ALIASES: tuple[Alias, ...] = ("serving", "previous", "candidate", "anchor")


class Aliases(BaseModel):
    """Contents of `NAME/aliases.json`; each alias is a version number, or None = points nowhere.

    The epoch grows by one whenever `serving` moves, so that an older writer can be told apart.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epoch: int = Field(default=0, ge=0, description="How often `serving` has moved.")
    serving: int | None = Field(default=None, ge=1, description="Answers requests.")
    previous: int | None = Field(default=None, ge=1, description="Served before; for a rollback.")
    candidate: int | None = Field(
        default=None, ge=1, description="Passed the gate and waits to be promoted."
    )
    anchor: int | None = Field(default=None, ge=1, description="Last one promoted by a person.")

    def versions(self) -> set[int]:
        """The versions that an alias points at."""
        pointed = (self.serving, self.previous, self.candidate, self.anchor)
        return {version for version in pointed if version is not None}

    def of(self, version: int) -> list[Alias]:
        """The aliases of a version."""
        return [alias for alias in ALIASES if getattr(self, alias) == version]

    def with_candidate(self, version: int | None) -> Aliases:
        """The same with another candidate, or none; what serves is none any more."""
        candidate = None if version == self.serving else version
        return self.model_copy(update={"candidate": candidate})

    def flipped(self, version: int, *, by_person: bool) -> Aliases:
        """After `version` has taken over from the serving one."""
        return Aliases(
            epoch=self.epoch + 1,
            serving=version,
            previous=self.serving,
            candidate=None if self.candidate == version else self.candidate,
            anchor=version if by_person else self.anchor,
        )

    def newer(self, stored: Aliases) -> Aliases:
        """These if `serving` has moved since `stored`, else those.

        A candidate that was named in between, which these know nothing of, stays.
        """
        if self.epoch <= stored.epoch:
            return stored
        return self if self.candidate else self.with_candidate(stored.candidate)

    def may_replace(self, stored: Aliases) -> bool:
        """Whether a writer may put these in place of `stored`: newer, or as new and serving alike.

        At the same epoch only candidate and anchor may differ, unless nothing served yet.
        """
        if self.epoch != stored.epoch or stored.serving is None:
            return self.epoch >= stored.epoch
        return (self.serving, self.previous) == (stored.serving, stored.previous)
