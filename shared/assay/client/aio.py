"""The client for asyncio; the twin of `assay.client.sync`, method by method."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from assay.client import flows, records
from assay.client.bodies import Items, given
from assay.client.exchange import (
    CONNECT_TIMEOUT_S,
    Deadline,
    Failure,
    Request,
    conclude,
    lost,
    wait_before_retry,
)
from assay.client.options import PROBE_TIMEOUT_S, make_options
from assay.errors import AssayError
from assay.schemas import scoring, storage
from assay.schemas.models import ModelCard, ModelList
from assay.schemas.promotions import PromotionReply, SwapWhen
from assay.schemas.text import Completion, Prompt

Result = TypeVar("Result")


class AsyncClient:
    """Talks to a reward server; for one event loop, safe to share between its tasks.

    Every method raises the exceptions of `assay.errors`: what the server answered with, or
    `ServerUnreachableError`, or `DeadlineExceededError`. Further keyword arguments of the scoring
    methods are the fields of the request (`aggregate`, `lcb_k`, `members`, `truncate`, `raw` ...).
    Proxies of the environment (`HTTP_PROXY` ...) are used, for loopback too unless `NO_PROXY`
    names it.

    Args:
        url: base URL; None = `ASSAY_URL`, or http://127.0.0.1:8000.
        key: None = `ASSAY_KEY`, or none.
        model: version that must answer, `name@7`; None = the serving one.
        timeout_s: longest time of one call, retries and waits included.
        retries: how often a request is tried again after a connection error or a 5xx.
        connections: requests under way at once.
        texts_per_request: larger calls are cut into several requests, all answered by one version.
            Groups stay whole, unless one alone is larger and `score` is asked.
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
        self,
        prompt: Prompt,
        completions: list[Completion],
        *,
        labels: list[Any] | None = None,
        finished: list[bool] | None = None,
        **options: Any,
    ) -> scoring.GroupScores:
        """Scores of the completions of one prompt; `finished` False = cut by the token limit."""
        group = given(prompt=prompt, completions=completions, labels=labels, finished=finished)
        return (await self.score_groups([group], **options)).results[0]

    async def score_groups(self, groups: Items, **options: Any) -> scoring.ScoreResponse:
        """Scores of any number of groups, by one version."""
        return await self._run(flows.score(groups, self._texts, self._options.with_model(options)))

    async def strength(
        self, prompt: Prompt, chosen: Completion, rejected: Completion, **options: Any
    ) -> scoring.PairStrength:
        """How strongly and how surely `chosen` is preferred."""
        pair = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        return (await self.strength_pairs([pair], **options)).results[0]

    async def strength_pairs(self, pairs: Items, **options: Any) -> scoring.StrengthResponse:
        """Strength of any number of pairs, by one version."""
        return await self._run(
            flows.strength(pairs, self._texts, self._options.with_model(options))
        )

    async def contrastive(
        self,
        prompt: Prompt,
        completions: list[Completion],
        baselines: list[Completion] | None = None,
        **options: Any,
    ) -> scoring.GroupRewards:
        """How much better than the baseline the completions of one prompt are."""
        group = given(prompt=prompt, completions=completions, baselines=baselines)
        return (await self.contrastive_groups([group], **options)).results[0]

    async def contrastive_groups(
        self, groups: Items, **options: Any
    ) -> scoring.ContrastiveResponse:
        """Contrastive rewards of any number of groups, by one version."""
        return await self._run(
            flows.contrastive(groups, self._texts, self._options.with_model(options))
        )

    async def best_of_n(
        self, prompt: Prompt, completions: list[Completion], **options: Any
    ) -> scoring.BestOfN:
        """The best completion of one prompt."""
        group = {"prompt": prompt, "completions": completions}
        return (await self.best_of_n_groups([group], **options)).results[0]

    async def best_of_n_groups(self, groups: Items, **options: Any) -> scoring.BestOfNResponse:
        """The best completion of each of any number of groups, by one version."""
        return await self._run(
            flows.best_of_n(groups, self._texts, self._options.with_model(options))
        )

    async def put_baselines(self, items: Items) -> storage.PutBaselinesResponse:
        """Store baseline completions; each item replaces the set of its prompt and policy."""
        return await self._run(records.put_baselines(items, self._texts))

    async def lookup_baselines(
        self, prompt: Prompt, policy: str | None = None
    ) -> storage.LookupBaselinesResponse:
        """The stored baselines of a prompt."""
        return await self._run(records.lookup_baselines(prompt, policy))

    async def delete_baselines(
        self, prompt: Prompt, policy: str | None = None
    ) -> storage.DeleteBaselinesResponse:
        """Delete the stored baselines of a prompt."""
        return await self._run(records.delete_baselines(prompt, policy))

    async def post_samples(
        self, items: Items, idempotency_key: str | None = None
    ) -> storage.PostSamplesResponse:
        """Hand samples of the current policy to the online trainer; stored once, retries or not."""
        return await self._run(records.post_samples(items, idempotency_key, self._texts))

    async def models(self) -> ModelList:
        """The versions that the server can score with."""
        return await self._run(records.models())

    async def model(self, name: str) -> ModelCard:
        """One version, by `name@7`, or by `name` for the serving one."""
        return await self._run(records.model(name))

    async def promote(
        self,
        model: str,
        *,
        wait_s: float = 0.0,
        swap_when: SwapWhen | None = None,
        force: bool = False,
    ) -> PromotionReply:
        """Let `name@7` serve on every replica; scope `admin`.

        Args:
            model: the version.
            wait_s: how long to wait for the end, at most 300; 0 = return at once.
            swap_when: `quiet` (between groups) or `now`; None = the server's setting.
            force: also a version that the gate has rejected.

        Raises:
            ConflictError: it was refused, another one is under way, or the server's version is
                fixed.
        """
        return await self._run(records.promote(model, wait_s, swap_when, force=force))

    async def rollback(
        self, name: str, *, wait_s: float = 0.0, swap_when: SwapWhen | None = None
    ) -> PromotionReply:
        """Let the previous version of `name` serve again; see `promote`."""
        return await self._run(records.rollback(name, wait_s, swap_when))

    async def promotion(self, identifier: str) -> PromotionReply:
        """How a promotion goes, or went in the last day."""
        return await self._run(records.promotion(identifier))

    async def health(self, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
        """Whether the server is alive; asks once."""
        return await self._run(records.probe("/healthz"), timeout_s)

    async def ready(self, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
        """Whether the server has its model loaded and takes new work; asks once."""
        return await self._run(records.probe("/readyz"), timeout_s)

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

    async def _run(self, flow: flows.Flow[Result], timeout_s: float | None = None) -> Result:
        deadline = Deadline(self._options.timeout_s if timeout_s is None else timeout_s)
        try:
            requests = next(flow)
            while True:
                try:
                    bodies = await self._send_all(requests, deadline)
                except AssayError as error:
                    requests = flow.throw(error)
                else:
                    requests = flow.send(bodies)
        except StopIteration as finished:
            result: Result = finished.value
            return result

    async def _send_all(self, requests: list[Request], deadline: Deadline) -> list[bytes]:
        if len(requests) == 1:
            return [await self._send(requests[0], deadline)]
        tasks = [asyncio.create_task(self._send(r, deadline)) for r in requests]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _send(self, request: Request, deadline: Deadline) -> bytes:
        attempt = 0
        while True:
            attempt += 1
            outcome = await self._try(request, deadline)
            if isinstance(outcome, bytes):
                return outcome
            await asyncio.sleep(
                wait_before_retry(outcome, attempt, self._options.retries, deadline)
            )

    async def _try(self, request: Request, deadline: Deadline) -> bytes | Failure:
        try:
            async with asyncio.timeout(deadline.left_s()), self._slots:
                response = await self._http.request(
                    request.method,
                    request.path,
                    content=request.body,
                    headers=request.all_headers,
                    timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
                )
        except TimeoutError:
            raise deadline.exceeded() from None
        except httpx.RequestError as error:
            return lost(request, error, self._options.server, deadline)
        return conclude(request, response, response.content)
