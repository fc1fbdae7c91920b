"""From stream entries to groups: entries of one completion are joined, by stream order alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, field_serializer

from assay.schemas.storage import Sample
from assay.schemas.text import Completion, Prompt, prompt_digest
from reward_trainer.fit.pairs import plain_json


class Group(BaseModel):
    """Completions of one policy for one prompt."""

    model_config = ConfigDict(frozen=True)

    prompt: Prompt
    completions: tuple[Completion, ...]
    policy: str
    step: int | None = None
    ids: tuple[str, ...]

    @field_serializer("prompt", "completions")
    def _as_it_came(self, value: Prompt | tuple[Completion, ...]) -> Any:
        """Messages without fields that were not set: a template may tell the difference."""
        if isinstance(value, tuple):
            return [plain_json(completion) for completion in value]
        return plain_json(value)


class Pending(BaseModel):
    """Completions that wait for others of their group."""

    key: str
    since: int
    group: Group


class Dropped(NamedTuple):
    """What does not become part of a group, and why.

    Attributes:
        ids: the stream entries.
        reason: one line.
        data: what each entry held, as far as it could be read.
    """

    ids: tuple[str, ...]
    reason: str
    data: tuple[str, ...]

    @classmethod
    def group(cls, group: Group, reason: str) -> Dropped:
        """A whole group."""
        own = [(c,) for c in group.completions]
        alone = len(group.ids) == len(own) and len(own) > 1
        parts = own if alone else [group.completions] * len(group.ids)
        data = (group.model_copy(update={"completions": part}) for part in parts)
        return cls(group.ids, reason, tuple(one.model_dump_json(exclude={"ids"}) for one in data))


Joined = Group | Dropped
ALONE = "alone: no other completion of its group came in time"


class Joining(BaseModel):
    """Joins entries; what it does next depends on the entries that it has seen and nothing else.

    Attributes:
        k_max: most completions of a group; it is released when it has so many.
        join_span: a group is released after so many more entries than its first, whatever they are.
        entries: seen so far.
        pending: in the order in which their first entries came.
    """

    k_max: int
    join_span: int
    entries: int = 0
    pending: list[Pending] = []

    def skip(self) -> list[Joined]:
        """Count an entry that is not joined.

        Returns:
            Groups that are released by it.
        """
        self.entries += 1
        return list(self._overdue())

    def add(self, entry: str, sample: Sample) -> list[Joined]:
        """Count an entry and join it.

        Args:
            entry: its stream id.
            sample: what it holds. Two completions or more are a group, or several of like size
                if they are more than `k_max`; of an odd number, pairs have one of three.

        Returns:
            Groups that are released, in an order that follows from that of the entries.
        """
        self.entries += 1
        released = list(self._overdue())
        group = Group(
            prompt=sample.prompt,
            completions=tuple(sample.completions),
            policy=sample.policy,
            step=sample.step,
            ids=(entry,),
        )
        if len(sample.completions) > 1:
            return [*released, *_parts(group, self.k_max)]
        return [*released, *self._join(group_key(sample), group)]

    def _join(self, key: str, group: Group) -> Iterator[Joined]:
        for index, waiting in enumerate(self.pending):
            if waiting.key == key:
                together = _together(waiting.group, group)
                if len(together.completions) < self.k_max:
                    self.pending[index] = waiting.model_copy(update={"group": together})
                else:
                    del self.pending[index]
                    yield together
                return
        self.pending.append(Pending(key=key, since=self.entries, group=group))

    def _overdue(self) -> Iterator[Joined]:
        while self.pending and self.entries - self.pending[0].since >= self.join_span:
            group = self.pending.pop(0).group
            yield group if len(group.completions) > 1 else Dropped.group(group, ALONE)


def group_key(sample: Sample) -> str:
    """Equal for samples that are joined: of one prompt, policy and group, or else step."""
    by = ["group", sample.group] if sample.group is not None else ["step", sample.step]
    text = json.dumps([prompt_digest(sample.prompt), sample.policy, *by])
    return hashlib.sha256(text.encode()).hexdigest()


def _together(first: Group, second: Group) -> Group:
    steps = [group.step for group in (first, second) if group.step is not None]
    return first.model_copy(
        update={
            "completions": (*first.completions, *second.completions),
            "ids": (*first.ids, *second.ids),
            "step": min(steps, default=None),
        }
    )


def _parts(group: Group, k_max: int) -> list[Group]:
    """A group in parts of like size, none of one completion; three are one part if k_max is 2."""
    number = len(group.completions)
    count = min(-(-number // k_max), number // 2)
    return [
        group.model_copy(update={"completions": part}) for part in _divide(group.completions, count)
    ]


def _divide(items: Sequence[Completion], count: int) -> Iterator[tuple[Completion, ...]]:
    size, larger = divmod(len(items), count)
    start = 0
    for index in range(count):
        end = start + size + (index < larger)
        yield tuple(items[start:end])
        start = end
