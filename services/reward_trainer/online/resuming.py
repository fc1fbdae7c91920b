"""What a trainer starts from: the newest checkpoint, or the version that is served."""

from __future__ import annotations

import uuid
from pathlib import Path

from reward_trainer.online.checkpoint import read_checkpoint
from reward_trainer.online.following import Served
from reward_trainer.online.groups import Joining
from reward_trainer.online.intake import Intake
from reward_trainer.online.learning import Learning
from reward_trainer.online.preferences import Stored
from reward_trainer.online.settings import TrainerSettings
from reward_trainer.online.state import State
from reward_trainer.online.stream import START
from reward_trainer.online.versions import Versions


def resume(
    settings: TrainerSettings, versions: Versions, stored: Stored, checkpoints: Path, served: Served
) -> Learning:
    """Go on from the newest checkpoint; with other pairs or another rule as a new lineage.

    Args:
        settings: those of now; they need not be those of the checkpoint.
        versions: of the model that is trained.
        stored: preference pairs.
        checkpoints: their folder.
        served: where a new lineage begins.

    Raises:
        AssayError: the checkpoint is damaged, or a version cannot be loaded.
    """
    checkpoint = read_checkpoint(checkpoints)
    parts = settings, versions, stored.preferences
    if checkpoint is None:
        return Learning(*parts, _first_state(settings, versions.name, stored.digest, served))
    state = checkpoint.state
    state.intake.joining.k_max = settings.k_max
    state.intake.joining.join_span = settings.join_span
    if settings.resume:
        state.paused, state.rejections = None, 0
    if state.recipe == stored.digest:
        return Learning.resumed(*parts, checkpoint)
    state.recipe, state.passed, state.wanted = stored.digest, [], None
    state.serving, state.epoch = served
    learning = Learning(*parts, state)
    learning.return_to(served.version)
    return learning


def _first_state(settings: TrainerSettings, model: str, recipe: str, served: Served) -> State:
    joining = Joining(k_max=settings.k_max, join_span=settings.join_span)
    return State(
        model=model,
        lineage=uuid.uuid4().hex,
        parent=served.version,
        serving=served.version,
        epoch=served.epoch,
        last_id=START,
        intake=Intake(joining=joining),
        recipe=recipe,
    )
