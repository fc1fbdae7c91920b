"""What replicas, trainer and commands tell each other through Redis about versions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Json

from assay.registry.aliases import Aliases

PromotionState = Literal["prepare", "wait", "hold", "flip", "done", "refused"]
PromotionKind = Literal["promote", "rollback"]
PromotedBy = Literal["person", "trainer"]
SwapWhen = Literal["quiet", "now"]
Version = Annotated[int, Field(ge=1)]


class _Record(BaseModel):
    # Ignoring what is unknown lets replicas of two releases work side by side for a while.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Promotion(_Record):
    """One move of `serving`; times are Redis's clock, so that replicas agree on them."""

    id: str
    name: str
    version: Version = Field(description="The version that is to serve.")
    kind: PromotionKind
    by: PromotedBy
    swap_when: SwapWhen = Field(description="`quiet`: between the groups; `now`: at once.")
    state: PromotionState = "prepare"
    reason: str | None = Field(default=None, description="Why it was refused.")
    epoch: int = Field(ge=1, description="The epoch that it creates.")
    created_s: float
    deadline_s: float = Field(description="End of `prepare`: after it the promotion is refused.")
    wait_since_s: float | None = Field(
        default=None, description="When every member had loaded it; a return to `wait` keeps it."
    )
    hold_since_s: float | None = Field(
        default=None, description="When the members were last told to close their doors."
    )
    members: list[str] = Field(
        default_factory=list, description="Replicas that took part in the last step."
    )
    stay: list[str] = Field(
        default_factory=list,
        description="Digests of prompts that were asked for lately, at a flip forced by the quiet "
        "deadline: the old version goes on answering them while their groups last.",
    )

    @property
    def active(self) -> bool:
        """Whether it is still under way."""
        return self.state not in ("done", "refused")


class Board(_Record):
    """What the key `assay:board:NAME` holds: the aliases, and the last promotion."""

    revision: int = Field(ge=0, description="Grows with each change: compare-and-set is on it.")
    aliases: Aliases
    promotion: Promotion | None = Field(
        default=None, description="Under way, or the last one that was; None = none yet."
    )

    @property
    def active(self) -> Promotion | None:
        """The promotion under way."""
        return self.promotion if self.promotion and self.promotion.active else None

    def changed(self, **changes: Any) -> Board:
        """The next revision, with these fields changed."""
        return self.model_copy(update={**changes, "revision": self.revision + 1})


class ReplicaState(_Record):
    """A replica's heartbeat."""

    replica: str
    epoch: int = Field(ge=0, description="Epoch of the version that it serves.")
    resident: list[int] = Field(description="Versions that it can score with.")
    failed: dict[int, str] = Field(
        default_factory=dict, description="Versions that it could not load, and why."
    )
    in_flight: int = Field(default=0, ge=0, description="Score requests under way.")
    idle_ms: float = Field(
        default=0.0,
        ge=0,
        description="Since a score request was in flight; 0 while one is. While it holds: as it "
        "was when it closed its door.",
    )
    held: int | None = Field(
        default=None, description="Epoch of the promotion for which its door is closed."
    )
    held_until_s: float = Field(
        default=0.0,
        description="While it holds: when the door opens by itself, by Redis's clock, at the "
        "earliest.",
    )
    recent: list[str] = Field(
        default_factory=list,
        description="While it holds: digests of the prompts that it was asked for lately, before "
        "it closed its door.",
    )
    at_s: float = Field(default=0.0, description="When it was heard, by Redis's clock.")


class Event(_Record):
    """An entry of the stream `assay:events`."""

    id: str
    name: str
    kind: str
    fields: Json[dict[str, Any]]
