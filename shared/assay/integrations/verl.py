"""`compute_score` for verl: `reward.custom_reward_function.path=pkg://assay.integrations.verl`.

`name=compute_score` for the managers that take coroutines (naive, dapo, gdpo),
`name=compute_score_sync` for `remote`. Settings go into `reward_kwargs`. verl has no word for "no
score", and NaN or 0 would be trained on, so that a missing score is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from assay.errors import InvalidInputError
from assay.integrations.groups import Asked, Rewarded, Text
from assay.integrations.rewarding import AsyncRewarder, Rewarder
from assay.integrations.settings import reward_settings

_PROMPT_KEYS = ("raw_prompt", "prompt", "question")


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    prompt_key: str | None = None,
    reward_router_address: str | None = None,
    reward_model_tokenizer: object = None,
    **settings: Any,
) -> dict[str, float]:
    """The reward of one completion, and what is worth logging with it.

    Args:
        data_source: name of the data set; with `extra_info["index"]` it names the group.
        solution_str: the completion.
        ground_truth: the label, for rules.
        extra_info: holds the prompt. verl's agent loop puts it there as `raw_prompt`; the
            managers dapo and gdpo leave that out, so that the data set must have it.
        prompt_key: which of its keys is the prompt; None = `raw_prompt`, `prompt` or `question`.
        reward_router_address: verl's own reward model, which is not asked.
        reward_model_tokenizer: of that model.
        settings: fields of `RewardSettings`; None = from the environment.

    Returns:
        `score`, `assay_version`, and `assay_std` where the model gives one.

    Raises:
        AssayError: no reward, why, and what to do about it.
    """
    asked = _asked(data_source, solution_str, ground_truth, extra_info or {}, prompt_key)
    return _scores(await _async_rewarder(**settings).reward([asked]))


def compute_score_sync(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    prompt_key: str | None = None,
    reward_router_address: str | None = None,
    reward_model_tokenizer: object = None,
    **settings: Any,
) -> dict[str, float]:
    """See `compute_score`."""
    asked = _asked(data_source, solution_str, ground_truth, extra_info or {}, prompt_key)
    return _scores(_rewarder(**settings).reward([asked]))


@cache
def _async_rewarder(**settings: Any) -> AsyncRewarder:
    return AsyncRewarder(reward_settings(**settings))


@cache
def _rewarder(**settings: Any) -> Rewarder:
    return Rewarder(reward_settings(**settings))


def _asked(
    data_source: str,
    completion: str,
    label: Any,
    extra_info: Mapping[str, Any],
    prompt_key: str | None,
) -> Asked:
    index = extra_info.get("index")
    return Asked(
        _prompt(extra_info, prompt_key),
        [completion],
        labels=None if label is None else [label],
        step=extra_info.get("min_global_steps"),
        group=None if index is None else f"{data_source}/{index}",
    )


def _prompt(extra_info: Mapping[str, Any], key: str | None) -> Text:
    for name in _PROMPT_KEYS if key is None else (key,):
        prompt = extra_info.get(name)
        if prompt is not None:
            return str(prompt) if isinstance(prompt, str) else [dict(turn) for turn in prompt]
    wanted = " or ".join(_PROMPT_KEYS) if key is None else key
    raise InvalidInputError(
        f"extra_info holds no {wanted}, and a completion is scored for its prompt: "
        "put it there in the data set, and name it with prompt_key in reward_kwargs"
    )


def _scores(results: list[Rewarded]) -> dict[str, float]:
    (result,) = results
    return {"score": result.only, **result.figures}
