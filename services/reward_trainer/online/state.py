"""Everything that the trainer's next decision depends on, but for tensors."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from reward_trainer.online.groups import Group
from reward_trainer.online.intake import Intake
from reward_trainer.online.step import StepRecord


class State(BaseModel):
    """Where the trainer is; a checkpoint holds it whole.

    Attributes:
        model: name of the model that is trained.
        lineage: id of an unbroken chain of updates; with `updates` it identifies a version.
        updates: of this lineage.
        steps: of all lineages; the pairs of the next update follow from it.
        parent: version whose weights the training goes on from, or that it returns to.
        serving: version that is served, as far as the trainer knows.
        epoch: how often `serving` had moved by then.
        passed: versions that it made and that passed the gate since it started from another one.
        wanted: version that is to be promoted without a person; None = none.
        last_id: last stream entry that went in.
        intake: what is joined and held out.
        queue: groups that wait for an update.
        history: records of this lineage, see `watch.remember`.
        warned: keys of warnings that were given in this lineage.
        rejections: candidates rejected in a row.
        paused: why there is no more training; None = there is.
        recipe: digest of what an update depends on beside samples: pairs, rule, seed, sizes.
        saves: how many checkpoints there were before this one.
        token: of the trainer that wrote it.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    lineage: str
    updates: int = 0
    steps: int = 0
    parent: int
    serving: int
    epoch: int = 0
    passed: list[int] = []
    wanted: int | None = None
    last_id: str
    intake: Intake
    queue: list[Group] = []
    history: list[StepRecord] = []
    warned: list[str] = []
    rejections: int = 0
    paused: str | None = None
    recipe: str
    saves: int = 0
    token: int = 0
