"""Which prompts were answered lately, so that no group of one prompt is split by a switch.

Trainers send the completions of one prompt as requests of their own. A switch between two of them
gives the group two scales, and its advantages are wrong.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.schemas.text import Prompt

_STRETCH = 4  # how much longer a group's pauses are on a server that finds no gap: it is busy
_MOST = 10_000  # prompts that are left on a version, so that the others can be told


@dataclass(slots=True)
class _Seen:
    version: int
    at_s: float
    in_flight: int
    is_split: bool = False


class PromptLog:
    """Remembers, for each prompt, the version that answered it last.

    Args:
        window_s: how long; two versions within it split a group.
        quiet_s: after this long without any request there is a gap between groups.
        clock: seconds that only grow.
    """

    def __init__(
        self, window_s: float, quiet_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window_s = window_s
        self._quiet_s = quiet_s
        self._clock = clock
        self._seen: OrderedDict[str, _Seen] = OrderedDict()  # least recently active first
        self._kept: dict[str, float] = {}  # prompt to the time of its last request
        self._kept_on: int | None = None
        self._kept_until_s = 0.0

    def begin(self, prompts: Iterable[str], version: int) -> int:
        """A request of these prompts gets a version.

        Returns:
            Prompts that another version answered within the window, each counted once.
        """
        self._forget()
        split = 0
        for prompt in prompts:
            seen = self._seen.pop(prompt, None) or _Seen(version, 0.0, 0)
            if seen.version != version and not seen.is_split:
                seen.is_split = True
                split += 1
            seen.version, seen.at_s = version, self._clock()
            seen.in_flight += 1
            self._seen[prompt] = seen
        return split

    def end(self, prompts: Iterable[str]) -> None:
        """The request is answered."""
        for prompt in prompts:
            seen = self._seen.pop(prompt, None)
            if seen is not None:
                seen.at_s = self._clock()
                seen.in_flight -= 1
                self._seen[prompt] = seen

    def active(self) -> list[str]:
        """Prompts in flight, or asked for within the quiet time."""
        return self._since(self._quiet_s)

    def lately(self) -> list[str]:
        """Prompts whose group may go on where there was no gap."""
        return self._since(_STRETCH * self._quiet_s)[-_MOST:]

    def _since(self, span_s: float) -> list[str]:
        since_s = self._clock() - span_s
        return [
            prompt
            for prompt, seen in self._seen.items()
            if seen.in_flight > 0 or seen.at_s >= since_s
        ]

    def keep(self, prompts: Iterable[str], version: int) -> None:
        """Leave prompts on a version until their groups are complete, or the window is over."""
        self._kept = dict.fromkeys(prompts, self._clock())
        self._kept_on = version
        self._kept_until_s = self._clock() + self._window_s

    def kept_on(self, prompts: Sequence[str]) -> int | None:
        """The version that a request must stay on, or None; all its prompts then stay on it."""
        if self._kept and self._clock() >= self._kept_until_s:
            self._kept = {}
        for prompt in [prompt for prompt in prompts if prompt in self._kept]:
            if not self._stays(prompt):
                del self._kept[prompt]
        if self._kept.keys().isdisjoint(prompts):
            return None
        self._kept.update(dict.fromkeys(prompts, self._clock()))
        return self._kept_on

    def _stays(self, prompt: str) -> bool:
        seen = self._seen.get(prompt)
        if seen is not None and seen.in_flight > 0:
            return True
        last_s = max(self._kept[prompt], seen.at_s if seen is not None else 0.0)
        return self._clock() - last_s < _STRETCH * self._quiet_s

    def _forget(self) -> None:
        before_s = self._clock() - self._window_s
        while self._seen:
            prompt, seen = next(iter(self._seen.items()))
            if seen.in_flight > 0 or seen.at_s >= before_s:
                return
            del self._seen[prompt]


def prompt_keys(prompts: Iterable[Prompt]) -> list[str]:
    """Short digests, equal for prompts that were written the same way."""
    return list(dict.fromkeys(_key(prompt) for prompt in prompts))


def _key(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        text = prompt
    else:
        text = "\n".join(message.model_dump_json(exclude_unset=True) for message in prompt)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
