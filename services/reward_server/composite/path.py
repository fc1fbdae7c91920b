"""One request through all parts of a composite, side by side, into one sum."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from assay.errors import FieldError, InvalidInputError
from assay.rewards.composite import Part, blend
from reward_server.composite.rule_pool import PoolLimits, RulePool
from reward_server.scoring import Scored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from assay.models.scorer import EncodedInput, Scorer
    from assay.schemas.models import ModelCard
    from assay.schemas.scoring import ScoringOptions
    from reward_server.composite.plan import Plan, Weighing
    from reward_server.metrics import ServerMetrics
    from reward_server.scoring import ScoringPath, Text
    from reward_server.settings import ServerSettings
    from reward_server.versions import Resident

_RULES_SHARE = 0.9  # of a request's time, in which rules have to be done


class Composite:
    """The parts that stay while the served model changes.

    Args:
        plan: the composite.
        companions: the models beside the served one, by component name.
        settings: bounds of the rules.
        metrics: where their outcomes are counted.
    """

    def __init__(
        self,
        plan: Plan,
        companions: Mapping[str, Resident],
        settings: ServerSettings,
        metrics: ServerMetrics,
    ) -> None:
        self._plan = plan
        self._companions = companions
        limits = PoolLimits(
            settings.rule_processes, settings.rule_timeout_s, settings.max_queue_texts
        )
        self._rules = RulePool(plan.rules, limits, metrics) if plan.rules else None
        self._rules_time_s = settings.request_timeout_s * _RULES_SHARE

    @property
    def note(self) -> str:
        """For the model card: what a score is the sum of."""
        models = [self._plan.served, *(companion.weighing for companion in self._plan.companions)]
        weights = [(part.weight, part.name) for part in models]
        weights += [(rule.weight, rule.name) for rule in self._plan.rules]
        terms = [f"{weight:g} x {name}" for weight, name in weights]
        return f"scores are a composite of {', '.join(terms)}; strength is of the model alone"

    @property
    def scorers(self) -> list[Scorer]:
        """The companions."""
        return [companion.scorer for companion in self._companions.values()]

    async def start(self) -> None:
        """Warm up the companions and start the rules' processes."""
        for companion in self._companions.values():
            await companion.start()
        if self._rules is not None:
            await self._rules.start()

    async def close(self) -> None:
        """Stop both."""
        for companion in self._companions.values():
            await companion.close()
        if self._rules is not None:
            await self._rules.close()

    def around(self, served: ScoringPath, card: ModelCard) -> CompositePath:
        """The composite around one version of the served model, whose card it is.

        Raises:
            ModelLoadError: a model is to be normalised, and was never calibrated.
        """
        models = [_model(self._plan.served, served, card, is_served=True)]
        for companion in self._plan.companions:
            resident = self._companions[companion.weighing.name]
            path, fixed = resident.model_scoring, resident.card
            models.append(_model(companion.weighing, path, fixed, is_served=False))
        return CompositePath(models, self._plan, self._rules, self._rules_time_s)


@dataclass(frozen=True)
class _Model:
    """One model of the sum; only the served one tells how sure it is."""

    name: str
    factor: float
    path: ScoringPath
    is_served: bool

    def part(self, scores: NDArray[np.float64]) -> Part:
        values = scores if self.is_served else scores.mean(axis=1, keepdims=True)
        return Part(self.name, self.factor, values)


def _model(weighing: Weighing, path: ScoringPath, card: ModelCard, *, is_served: bool) -> _Model:
    return _Model(weighing.name, weighing.factor(card), path, is_served)


class CompositePath:
    """Scores like `ScoringPath`, with all parts of a composite.

    The sum is made member by member of the served ensemble: other models and rules add the same to
    each. So mean, `lcb`, `min`, best of n and contrastive rewards are those of the whole, and what
    spreads is the served ensemble times its weight.
    """

    def __init__(
        self, models: Sequence[_Model], plan: Plan, rules: RulePool | None, rules_time_s: float
    ) -> None:
        self._models = models
        self._plan = plan
        self._rules = rules
        self._rules_time_s = rules_time_s

    async def score(self, texts: Sequence[Text], options: ScoringOptions) -> Scored:
        """Score the texts of one request; see `ScoringPath.score`.

        Raises:
            InvalidInputError: a text that one of the models, or a rule, does not take.
            OverloadedError: too many texts wait for a model or for rules.
        """
        self._check_texts(texts)
        scored, values = await self._gather(texts, options)
        parts = [model.part(each.scores) for model, each in zip(self._models, scored, strict=True)]
        for index, rule in enumerate(self._plan.rules):
            parts.append(Part(rule.name, rule.weight, values[:, [index]]))
        total = blend(parts)
        absent = total.absent if total.absent.any() else None
        return Scored(total.scores, _encoded(scored), total.components, absent)

    def _check_texts(self, texts: Sequence[Text]) -> None:
        """Token ids are the served model's: other models and rules cannot read them."""
        if len(self._models) == 1 and self._rules is None:
            return
        for text in texts:
            if text.encoding is not None and text.encoding.ids is not None:
                detail = "this server scores by several models or rules, which read texts: send one"
                raise InvalidInputError(detail, fields=(FieldError(text.path, detail),))

    async def _gather(
        self, texts: Sequence[Text], options: ScoringOptions
    ) -> tuple[list[Scored], NDArray[np.float64]]:
        """What models and rules give; the first that fails ends the others."""
        try:
            async with asyncio.TaskGroup() as group:
                scoring = [
                    group.create_task(model.path.score(texts, options)) for model in self._models
                ]
                judging = group.create_task(self._run_rules(texts))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [each.result() for each in scoring], judging.result()

    async def _run_rules(self, texts: Sequence[Text]) -> NDArray[np.float64]:
        if self._rules is None:
            return np.empty((len(texts), 0))
        return await self._rules.score(texts, self._rules_time_s)


def _encoded(scored: Sequence[Scored]) -> list[EncodedInput]:
    """The served model's tokens, marked as truncated if any model's were."""
    rows = zip(*(each.encoded for each in scored), strict=True)
    return [
        replace(row[0], truncated=True) if any(text.truncated for text in row) else row[0]
        for row in rows
    ]
