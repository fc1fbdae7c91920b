"""From the weights in training to a version in the store, judged by the gate."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from assay.errors import ScoringError
from assay.models.loading import load
from assay.models.manifest import MANIFEST, Manifest
from assay.models.members import Members
from assay.models.options import LoadOptions
from assay.models.saving import save
from assay.schemas.refs import ModelRef
from reward_trainer.fit.measuring import input_pairs
from reward_trainer.fit.pairs import Pair
from reward_trainer.gate.data import GateData, cluster_of
from reward_trainer.gate.evaluate import evaluate
from reward_trainer.gate.measuring import Measured, measure
from reward_trainer.gate.report import GateReport
from reward_trainer.online.crash import Crash
from reward_trainer.online.learning import Learning
from reward_trainer.online.state import State
from reward_trainer.online.versions import Versions


class Judged(NamedTuple):
    """A version that was made, and what the gate says.

    Attributes:
        folder: where it lies until it is in the store; None = it was in the store before.
    """

    version: int
    report: GateReport
    folder: Path | None


class Evidence(NamedTuple):
    """Pairs that no version of a lineage is trained on.

    Attributes:
        held: stored pairs; an ensemble is calibrated on them too.
        probe: gives labelled recent samples, as they are at the moment.
        trained: conversations of the pairs that are trained on; the probe may have come to name
            some of them.
    """

    held: Sequence[Pair]
    probe: Callable[[], Sequence[Pair]]
    trained: frozenset[str]


class Publisher:
    """Makes versions; every method blocks.

    Args:
        versions: whose store they go to.
        evidence: what the gate judges by.
        recipe: what goes into the manifest.
        folder: for drafts.
        crash: points of a test.
    """

    def __init__(
        self,
        versions: Versions,
        evidence: Evidence,
        recipe: dict[str, Any],
        folder: Path,
        crash: Crash,
    ) -> None:
        self._versions, self._evidence, self._recipe = versions, evidence, recipe
        self._folder, self._crash = folder, crash

    def make(self, learning: Learning, anchor: int) -> Judged:
        """Save the weights as they are and have the gate judge what was saved.

        The version of a lineage and its number of updates is made once: if it is in the store, it
        is taken from there with its verdict.

        Args:
            learning: unchanged.
            anchor: the last version that a person promoted.
        """
        state, store = learning.state, self._versions.store
        version = store.reserve(state.model, f"{state.lineage}:{state.updates}")
        ref = ModelRef(state.model, version)
        if version in store.versions(state.model):
            return Judged(version, _verdict(store.manifest(ref)), None)
        data = self._data(state)
        first = measure(self._versions.load(anchor), data)
        parent = first
        if state.parent != anchor:
            parent = measure(self._versions.load(state.parent), data)
        folder = self._draft(learning, ref, first)
        candidate = load(str(folder), LoadOptions(device=self._versions.device))
        report = evaluate(candidate, parent, first, data)
        self._crash.at("after_gate")
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        status = "candidate" if report.passed else "rejected"
        judged = manifest.model_copy(update={"gate": report.to_manifest(), "status": status})
        (folder / MANIFEST).write_text(judged.model_dump_json(indent=2), encoding="utf-8")
        return Judged(version, report, folder)

    def publish(self, judged: Judged) -> None:
        """Put a version into the store, whatever the verdict."""
        if judged.folder is not None:
            self._versions.store.publish(judged.folder, self._versions.ref(judged.version))
            self._crash.at("after_publish")
            shutil.rmtree(self._folder, ignore_errors=True)

    def _draft(self, learning: Learning, ref: ModelRef, anchor: Measured) -> Path:
        """Save a version whose scores lie where the anchor's lie, before anybody sees it.

        One that gives scores that are no numbers is saved as it is, for the gate to reject.
        """
        shutil.rmtree(self._folder, ignore_errors=True)
        members, encoder = learning.ensemble.members, learning.encoder
        pairs = input_pairs(encoder, self._evidence.held)
        manifest = self._manifest(learning, ref)
        with _same_offsets(members):
            try:
                return save(members, encoder, manifest, self._folder, pairs, level=_level(anchor))
            except ScoringError:
                return save(members, encoder, manifest, self._folder)

    def _data(self, state: State) -> GateData:
        evidence = self._evidence
        probe = evidence.probe()
        unseen = [pair for pair in probe if cluster_of(pair) not in evidence.trained]
        return GateData(
            held=evidence.held,
            groups=state.intake.held,
            probe=unseen,
            probe_trained=len(probe) - len(unseen),
            groups_trained=state.intake.trained,
        )

    def _manifest(self, learning: Learning, ref: ModelRef) -> Manifest:
        state = learning.state
        made = {
            "name": ref.name,
            "version": ref.version,
            "created": int(state.last_id.partition("-")[0]) // 1000,
            "parent": str(self._versions.ref(state.parent)),
            "recipe": self._recipe,
            "metrics": {"last_update": state.history[-1].model_dump(mode="json")},
            "data_digest": state.recipe,
            "last_stream_id": state.last_id,
            "lineage_id": state.lineage,
            "updates": state.updates,
            "calibration": None,
            "gate": None,
        }
        parent = self._versions.manifest(state.parent)
        if parent is not None:
            return parent.model_copy(update=made)
        return Manifest.model_validate(
            {
                "kind": "whole",
                "members": ["."],
                "input_format": learning.encoder.format,
                "max_tokens": learning.encoder.max_tokens,
                **made,
            }
        )


def _level(anchor: Measured) -> float:
    """The mean score that the anchor gives the held-out texts."""
    texts = np.unique(anchor.layout.held)
    return float(anchor.mean[texts].mean()) if len(texts) else 0.0


def _verdict(manifest: Manifest) -> GateReport:
    return GateReport.model_validate(manifest.gate)


@contextmanager
def _same_offsets(members: Members) -> Iterator[None]:
    """Saving centres the heads; the training goes on with them as they were, bit for bit."""
    heads = [head for head in members.heads() if head.bias is not None]
    before = [head.bias.detach().clone() for head in heads]
    try:
        yield
    finally:
        with torch.no_grad():
            for head, bias in zip(heads, before, strict=True):
                head.bias.copy_(bias)
