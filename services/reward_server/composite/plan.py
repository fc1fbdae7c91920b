"""What the setting `components` stands for: the served model, other models, and rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from assay.errors import AssayError, InvalidInputError, ModelLoadError, StartupError
from assay.models.manifest import read_manifest
from assay.models.resolve import resolve
from assay.rewards.rules.catalogue import RUNS_CODE
from assay.rewards.rules.code_tests import CodeTests
from assay.schemas.components import check_names
from assay.schemas.refs import ModelRef, parse_pin

if TYPE_CHECKING:
    from assay.models.scorer import Scorer
    from assay.registry.store import Store
    from assay.schemas.components import Component, Normalise
    from assay.schemas.models import ModelCard
    from reward_server.origin import Origin
    from reward_server.settings import ServerSettings


@dataclass(frozen=True)
class Weighing:
    """How a model's score enters the sum."""

    name: str
    weight: float
    normalise: Normalise

    def factor(self, card: ModelCard) -> float:
        """What a score of this version is multiplied by.

        Raises:
            ModelLoadError: it is to be normalised, and was never calibrated.
        """
        if self.normalise == "none":
            return self.weight
        if card.assay.calibration is None:
            raise ModelLoadError(
                f"{card.id} is normalised by its calibration as a component, and has none: "
                "calibrate it, or set normalise to none"
            )
        return self.weight / card.assay.calibration.temperature


@dataclass(frozen=True)
class Companion:
    """A model that is loaded beside the served one and stays as it is."""

    weighing: Weighing
    location: str
    ref: ModelRef | None  # None = a folder or a hub id


@dataclass(frozen=True)
class RuleSpec:
    """A rule with what it takes; it goes to the rules' processes as JSON."""

    name: str
    rule: str
    weight: float
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """A composite: the served model, other models and rules."""

    served: Weighing
    companions: tuple[Companion, ...]
    rules: tuple[RuleSpec, ...]


class Parts(NamedTuple):
    """A composite with the models beside the served one loaded, by component name."""

    plan: Plan
    companions: Mapping[str, Scorer]


def make_plan(settings: ServerSettings, origin: Origin) -> Plan | None:
    """Sort the components; None without any: the score is the model's own.

    Exactly one of them is the served model: named as the setting `model` is, or by its name alone.
    It follows promotions; all others stay.

    Raises:
        StartupError: none or several of them are the served model, two have one name, or a rule
            runs code and is not allowed to.
    """
    if not settings.components:
        return None
    served, companions, rules = [], [], []
    for component in settings.components:
        if component.rule is not None:
            rules.append(_rule(component, component.rule, settings))
        elif _is_served(component, settings, origin):
            served.append(_weighing(component, origin.ref.name))
        else:
            companions.append(_companion(component, component.model or ""))
    if len(served) != 1:
        raise StartupError(
            f"components: {len(served)} of them are the served model, and one has to be: "
            f'write {{"model": "{origin.ref.name}"}} once'
        )
    plan = Plan(served[0], tuple(companions), tuple(rules))
    try:
        check_names(component_names(plan))
    except InvalidInputError as error:
        raise StartupError(f"components: {error.detail}") from None
    return plan


def component_names(plan: Plan) -> list[str]:
    """The names of all components, as replies have them."""
    models = [companion.weighing.name for companion in plan.companions]
    return [plan.served.name, *models, *(rule.name for rule in plan.rules)]


def check_companions(plan: Plan, store: Store) -> None:
    """Whether the models beside the served one are there; those of a hub are not asked for.

    Raises:
        StartupError: one is not, or is to be normalised and was never calibrated.
    """
    for companion in plan.companions:
        try:
            _check_companion(companion, store)
        except AssayError as error:
            raise StartupError(f"component {companion.weighing.name}: {error.detail}") from None


def _check_companion(companion: Companion, store: Store) -> None:
    if companion.ref is not None and companion.ref.version in store.versions(companion.ref.name):
        calibration = store.manifest(companion.ref).calibration
    else:
        source = resolve(companion.location)
        if source.kind != "artifact":
            return
        calibration = read_manifest(source.path).calibration
    if companion.weighing.normalise == "calibration" and calibration is None:
        raise StartupError("it was never calibrated: calibrate it, or set normalise to none")


def _is_served(component: Component, settings: ServerSettings, origin: Origin) -> bool:
    if component.model == settings.model:
        return True
    try:
        name, version = parse_pin(component.model or "")
    except InvalidInputError:
        return False
    return name == origin.ref.name and (
        version is None or (version == origin.ref.version and not origin.follows)
    )


def _companion(component: Component, model: str) -> Companion:
    if Path(model).expanduser().is_dir():
        return Companion(_weighing(component, Path(model).name), model, None)
    try:
        name, version = parse_pin(model)
    except InvalidInputError as error:
        raise StartupError(f"components: {error.detail}") from None
    if version is None and "/" not in model:
        raise StartupError(
            f"components: {model} is not the served model, so that its version has to be named: "
            f"{model}@7, say"
        )
    ref = None if version is None else ModelRef(name, version)
    return Companion(_weighing(component, str(ref) if ref else name), model, ref)


def _weighing(component: Component, name: str) -> Weighing:
    return Weighing(component.name or name, component.weight, component.normalise)


def _rule(component: Component, rule: str, settings: ServerSettings) -> RuleSpec:
    if rule in RUNS_CODE:
        _check_code(rule, component.options, settings)
    return RuleSpec(component.name or rule, rule, component.weight, component.options)


def _check_code(rule: str, options: Mapping[str, Any], settings: ServerSettings) -> None:
    if settings.allow_code != rule:
        raise StartupError(
            f"components: the rule {rule} runs code that a policy wrote: allow it by name with "
            f"ASSAY_ALLOW_CODE={rule}"
        )
    try:
        made = CodeTests.model_validate(options)
    except ValidationError:
        return  # the rule itself says what is wrong, when it is made
    if made.wall_s >= settings.rule_timeout_s:
        raise StartupError(
            f"components: twice the time_s {made.time_s:g} of the rule {rule} is not below "
            f"rule_timeout_s {settings.rule_timeout_s:g}: lower the first or raise the second"
        )
