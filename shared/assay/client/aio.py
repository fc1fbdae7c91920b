"""The client for asyncio; the twin of `assay.client.sync`, method by method."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from assay.client import flows
from assay.client.exchange import Outcome, Request, conclude, too_late, wait_before_retry
from assay.client.options import make_options
from assay.schemas import scoring, storage
from assay.schemas.models import ModelCard, ModelList
from assay.schemas.text import Completion, Prompt

Model = TypeVar("Model", bound=BaseModel)


class AsyncClient:
    """Talks to a reward server; for one event loop, safe to share between its tasks.

    Every method raises the exceptions of `assay.errors`: what the server answered with, or
    `ServerUnreachableError`, or `DeadlineExceededError`. Further keyword arguments of the scoring
    methods are the fields of the request (`aggregate`, `lcb_k`, `members`, `truncate`, `raw` ...).

    Args:
        url: base URL; None = `ASSAY_URL`, or http://127.0.0.1:8000.
        key: None = `ASSAY_KEY`, or none.
        model: version that must answer, `name@7`; None = the serving one.
        timeout_s: longest time of one call, retries and waits included.
        retries: how often a request is tried again after a connection error or a 5xx.
        connections: requests under way at once.
        texts_per_request: larger calls are cut into several requests, never inside a group; all
            of them are answered by one version.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        model: str | None = None,
        timeout_s: float = 300.0,
        retries: int = 5,
        connections: int = 16,
        texts_per_request: int = 1024,
    ) -> None:
        self._options = make_options(
            url,
            key,
            model,
            timeout_s=timeout_s,
            retries=retries,
            connections=connections,
            texts_per_request=texts_per_request,
        )
        self._http = httpx.AsyncClient(**self._options.httpx_arguments())  # type: ignore[arg-type]
        self._slots = asyncio.Semaphore(connections)

    async def score(
        self, prompt: Prompt, completions: list[Completion], **options: Any
    ) -> scoring.GroupScores:
        """Scores of the completions of one prompt."""
        group = {"prompt": prompt, "completions": completions}
        return (await self.score_groups([group], **options)).results[0]

    async def score_groups(self, groups: flows.Items, **options: Any) -> scoring.ScoreResponse:
        """Scores of any number of groups, by one version."""
        return await self._run(flows.score(groups, self._texts, self._with_model(options)))

    async def strength(
        self, prompt: Prompt, chosen: Completion, rejected: Completion, **options: Any
    ) -> scoring.PairStrength:
        """How strongly and how surely `chosen` is preferred."""
        pair = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        return (await self.strength_pairs([pair], **options)).results[0]

    async def strength_pairs(self, pairs: flows.Items, **options: Any) -> scoring.StrengthResponse:
        """Strength of any number of pairs, by one version."""
        return await self._run(flows.strength(pairs, self._texts, self._with_model(options)))

    async def contrastive(
        self,
        prompt: Prompt,
        completions: list[Completion],
        baselines: list[Completion] | None = None,
        **options: Any,
    ) -> scoring.GroupRewards:
        """How much better than the baseline the completions of one prompt are."""
        group: dict[str, Any] = {"prompt": prompt, "completions": completions}
        if baselines is not None:
            group["baselines"] = baselines
        return (await self.contrastive_groups([group], **options)).results[0]

    async def contrastive_groups(
        self, groups: flows.Items, **options: Any
    ) -> scoring.ContrastiveResponse:
        """Contrastive rewards of any number of groups, by one version."""
        return await self._run(flows.contrastive(groups, self._texts, self._with_model(options)))

    async def best_of_n(
        self, prompt: Prompt, completions: list[Completion], **options: Any
    ) -> scoring.BestOfN:
        """The best completion of one prompt."""
        group = {"prompt": prompt, "completions": completions}
        return (await self.best_of_n_groups([group], **options)).results[0]

    async def best_of_n_groups(
        self, groups: flows.Items, **options: Any
    ) -> scoring.BestOfNResponse:
        """The best completion of each of any number of groups, by one version."""
        return await self._run(flows.best_of_n(groups, self._texts, self._with_model(options)))

    async def put_baselines(self, items: flows.Items) -> storage.PutBaselinesResponse:
        """Store baseline completions; each item replaces the set of its prompt and policy."""
        return await self._run(flows.put_baselines(items))

    async def lookup_baselines(
        self, prompt: Prompt, policy: str | None = None
    ) -> storage.LookupBaselinesResponse:
        """The stored baselines of a prompt."""
        return await self._run(flows.lookup_baselines(prompt, policy))

    async def delete_baselines(
        self, prompt: Prompt, policy: str | None = None
    ) -> storage.DeleteBaselinesResponse:
        """Delete the stored baselines of a prompt."""
        return await self._run(flows.delete_baselines(prompt, policy))

    async def post_samples(
        self, items: flows.Items, idempotency_key: str | None = None
    ) -> storage.PostSamplesResponse:
        """Hand samples of the current policy to the online trainer; stored once, retries or not."""
        return await self._run(flows.post_samples(items, idempotency_key))

    async def models(self) -> ModelList:
        """The versions that the server can score with."""
        return await self._run(flows.models())

    async def model(self, name: str) -> ModelCard:
        """One version, by `name@7`, or by `name` for the serving one."""
        return await self._run(flows.model(name))

    async def aclose(self) -> None:
        """Close the connections; a second call does nothing."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def _texts(self) -> int:
        return self._options.texts_per_request

    def _with_model(self, options: dict[str, Any]) -> dict[str, Any]:
        pin = {"model": self._options.model} if self._options.model else {}
        return {**pin, **options}

    async def _run(self, flow: flows.Flow[Model]) -> Model:
        deadline_s = time.monotonic() + self._options.timeout_s
        try:
            requests = next(flow)
            while True:
                requests = self._advance(flow, await self._send_all(requests, deadline_s))
        except StopIteration as finished:
            result: Model = finished.value
            return result

    def _advance(
        self, flow: flows.Flow[Model], replies: list[httpx.Response] | Exception
    ) -> list[Request]:
        return flow.throw(replies) if isinstance(replies, Exception) else flow.send(replies)

    async def _send_all(
        self, requests: list[Request], deadline_s: float
    ) -> list[httpx.Response] | Exception:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._send(r, deadline_s)) for r in requests]
            return [task.result() for task in tasks]
        except ExceptionGroup as errors:
            return errors.exceptions[0]

    async def _send(self, request: Request, deadline_s: float) -> httpx.Response:
        attempt = 0
        while True:
            attempt += 1
            async with self._slots:
                outcome = await self._try(request, deadline_s)
            wait_s = wait_before_retry(outcome, attempt, self._options.retries)
            if wait_s is None:
                return conclude(outcome, self._options.url)
            if time.monotonic() + wait_s > deadline_s:
                raise too_late(self._options.timeout_s) from None
            await asyncio.sleep(wait_s)

    async def _try(self, request: Request, deadline_s: float) -> Outcome:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise too_late(self._options.timeout_s)
        try:
            return await self._http.request(
                request.method,
                request.path,
                content=request.body,
                headers=request.all_headers,
                timeout=left_s,
            )
        except httpx.TimeoutException:
            raise too_late(self._options.timeout_s) from None
        except httpx.TransportError as error:
            return error
