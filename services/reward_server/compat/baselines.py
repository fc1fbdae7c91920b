"""Stored baselines on the compatible routes: needed for the reward, or reported if at hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from assay.errors import AssayError, FieldError, InvalidInputError, UnavailableError
from reward_server.compat.values import Gain
from reward_server.contrast import find_stored, group_rewards
from reward_server.scoring import Text

if TYPE_CHECKING:
    from assay.schemas.text import Completion
    from reward_server.compat.query import RewardOptions
    from reward_server.runtime import Runtime
    from reward_server.scoring import Scored

logger = logging.getLogger(__name__)

_AT_HAND_S = 0.25  # that a reward waits for a baseline which it does not need
_RETRY_AFTER_OPERATOR_S = 30.0

Baselines = Mapping[int, Sequence["Completion"]]  # by the position of the text


def offers_contrastive(runtime: Runtime) -> bool:
    """Whether the contrastive reward comes beside another one: not if rules would run for it."""
    return runtime.stores and not runtime.settings.components


def has_prompt(text: Text) -> bool:
    """Whether it is known where the prompt ends."""
    return text.encoding is None or not (text.encoding.raw or text.encoding.ids)


async def needed_baselines(
    runtime: Runtime, texts: Sequence[Text], policy: str | None
) -> Baselines:
    """The baselines of every text.

    Raises:
        InvalidInputError: a text whose prompt is not known.
        UnavailableError: one without stored baselines, or Redis is down.
    """
    for text in texts:
        if not has_prompt(text):
            detail = "the contrastive reward needs a prompt in a known template"
            raise InvalidInputError(
                f"{text.path}: {detail}", fields=(FieldError(text.path, detail),)
            )
    found = await find_stored(runtime, [(text.path, text.prompt) for text in texts], policy)
    missing = [text.path for text, completions in zip(texts, found, strict=True) if not completions]
    if missing:
        raise UnavailableError(
            f"no baseline is stored for the prompt of {', '.join(missing[:5])}",
            fields=tuple(FieldError(path, "no baseline is stored") for path in missing),
            retry_after_s=_RETRY_AFTER_OPERATOR_S,
        )
    return dict(enumerate(found))


async def baselines_at_hand(
    runtime: Runtime, texts: Sequence[Text], policy: str | None
) -> Baselines:
    """Those that Redis gives at once: the reward does not depend on them."""
    wanted = [index for index, text in enumerate(texts) if has_prompt(text)]
    try:
        async with asyncio.timeout(_AT_HAND_S):
            found = await find_stored(
                runtime, [(texts[index].path, texts[index].prompt) for index in wanted], policy
            )
    except (AssayError, TimeoutError) as error:
        logger.debug("no baselines at hand", extra={"reason": str(error)})
        return {}
    return {
        index: completions for index, completions in zip(wanted, found, strict=True) if completions
    }


def baseline_texts(texts: Sequence[Text], baselines: Baselines) -> list[Text]:
    """What is scored after the texts themselves."""
    return [
        Text(
            texts[index].prompt,
            completion,
            path=f"{texts[index].path}: stored baseline {number}",
            label=texts[index].label,
        )
        for index, completions in baselines.items()
        for number, completion in enumerate(completions)
    ]


def gains_over(
    position: int,
    scored: Scored,
    baselines: Baselines,
    options: RewardOptions,
) -> dict[int, Gain]:
    """What each text that has baselines, whose scores start at `position`, gains over them."""
    scores = scored.with_gaps
    gains = {}
    for index, completions in baselines.items():
        own = scores[position : position + len(completions)]
        position += len(completions)
        result = group_rewards(options, scores[[index]], "stored", own)
        (reward,) = result.rewards
        if reward is not None and result.baseline is not None:
            gains[index] = Gain(reward, result.baseline.count)
    return gains
