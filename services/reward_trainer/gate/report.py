"""What the gate found, rule by rule, as the manifest keeps it and `assay models show` prints it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Shift = Literal["verified", "unverified"]
OnFailure = Literal["reject", "manual", "report"]


class RuleResult(BaseModel):
    """One rule on one candidate."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    passed: bool
    value: float | None = Field(description="What is compared; None = it could not be measured.")
    bound: str = Field(description="What the value must be: `below 0.02`; empty = only reported.")
    detail: str = Field(description="One line for people: what the value is and is made of.")
    on_failure: OnFailure = Field(
        default="reject",
        description="`manual`: a person decides; `report`: the rule has no bound.",
    )


class GateReport(BaseModel):
    """All rules on one candidate.

    Attributes:
        passed: no rule rejects the candidate.
        manual_only: too little evidence to promote it without a person.
        shift: whether labelled recent samples show that it is no worse on them than the version
            that it came from and the anchor.
        rules: in the order in which they are shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    passed: bool
    manual_only: bool
    shift: Shift
    rules: tuple[RuleResult, ...]

    @classmethod
    def of(cls, rules: Sequence[RuleResult], shift: Shift) -> GateReport:
        """The verdict that follows from the rules."""
        failed = {rule.on_failure for rule in rules if not rule.passed}
        return cls(
            passed="reject" not in failed,
            manual_only="manual" in failed,
            shift=shift,
            rules=tuple(rules),
        )

    @property
    def reasons(self) -> list[str]:
        """Why the candidate is rejected, a line per rule; empty if it is not."""
        return [
            f"{rule.name}: {rule.detail}"
            for rule in self.rules
            if not rule.passed and rule.on_failure == "reject"
        ]

    def to_manifest(self) -> dict[str, Any]:
        """Plain JSON types, as `Manifest.gate` holds them; `model_validate` reads them back."""
        return self.model_dump(mode="json")
