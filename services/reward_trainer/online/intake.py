"""What each stream entry becomes: part of a group to train on or to judge by, or a dead letter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from pydantic import BaseModel

from assay.errors import DataError
from reward_trainer.gate.data import is_held_group
from reward_trainer.online.filters import Encode, distinct, read_sample
from reward_trainer.online.groups import Dropped, Group, Joined, Joining
from reward_trainer.online.lag import Lag
from reward_trainer.online.options import Limits

HELD_GROUPS = 300  # the newest of them judge a candidate


class Ready(NamedTuple):
    """A group that has passed every filter."""

    use: Literal["train", "held"]
    group: Group


class Intake(BaseModel):
    """The state of reading; a checkpoint holds it whole.

    Attributes:
        joining: groups that are not complete.
        lag: newest steps of the policies.
        held: newest groups that are never trained on, oldest first.
        trained: groups that were not held out.
        dead: entries that went to the dead letter, by the first word of the reason.
    """

    joining: Joining
    lag: Lag = Lag()
    held: list[Group] = []
    trained: int = 0
    dead: dict[str, int] = {}

    def take(
        self, entry: str, fields: Mapping[str, str], encode: Encode, limits: Limits
    ) -> list[Ready | Dropped]:
        """Take in one entry.

        Args:
            entry: its stream id.
            fields: as they are in the stream.
            encode: as the model reads texts.
            limits: what a sample may be.

        Returns:
            What it completes, in an order that follows from the entries alone.
        """
        return list(self._sorted_out(self._joined(entry, fields, limits), encode, limits))

    def _joined(self, entry: str, fields: Mapping[str, str], limits: Limits) -> list[Joined]:
        try:
            sample = read_sample(fields, limits)
            self.lag.check(sample, limits.max_policy_lag, self.joining.join_span)
        except DataError as error:
            return [
                *self.joining.skip(),
                Dropped((entry,), error.detail, (fields.get("data", ""),)),
            ]
        return self.joining.add(entry, sample)

    def _sorted_out(
        self, joined: list[Joined], encode: Encode, limits: Limits
    ) -> Iterator[Ready | Dropped]:
        for item in joined:
            if isinstance(item, Dropped):
                yield self._dead(item)
                continue
            try:
                group = distinct(item, encode, limits)
            except DataError as error:
                yield self._dead(Dropped.group(item, error.detail))
                continue
            yield self._use(group)

    def _use(self, group: Group) -> Ready:
        if not is_held_group(group.prompt):
            self.trained += 1
            return Ready("train", group)
        self.held = [*self.held, group][-HELD_GROUPS:]
        return Ready("held", group)

    def _dead(self, dropped: Dropped) -> Dropped:
        kind = dropped.reason.partition(":")[0]
        self.dead[kind] = self.dead.get(kind, 0) + len(dropped.ids)
        return dropped
