"""The blocking client."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from copy import copy
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


class Client:
    """Talks to a reward server; safe to share between threads, not across a fork.

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
        self._http = httpx.Client(**self._options.httpx_arguments())  # type: ignore[arg-type]
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="assay-client")

    def score(
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
        return self.score_groups([group], **options).results[0]

    def score_groups(self, groups: Items, **options: Any) -> scoring.ScoreResponse:
        """Scores of any number of groups, by one version."""
        return self._run(flows.score(groups, self._texts, self._options.with_model(options)))

    def strength(
        self, prompt: Prompt, chosen: Completion, rejected: Completion, **options: Any
    ) -> scoring.PairStrength:
        """How strongly and how surely `chosen` is preferred."""
        pair = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        return self.strength_pairs([pair], **options).results[0]

    def strength_pairs(self, pairs: Items, **options: Any) -> scoring.StrengthResponse:
        """Strength of any number of pairs, by one version."""
        return self._run(flows.strength(pairs, self._texts, self._options.with_model(options)))

    def contrastive(
        self,
        prompt: Prompt,
        completions: list[Completion],
        baselines: list[Completion] | None = None,
        **options: Any,
    ) -> scoring.GroupRewards:
        """How much better than the baseline the completions of one prompt are."""
        group = given(prompt=prompt, completions=completions, baselines=baselines)
        return self.contrastive_groups([group], **options).results[0]

    def contrastive_groups(self, groups: Items, **options: Any) -> scoring.ContrastiveResponse:
        """Contrastive rewards of any number of groups, by one version."""
        return self._run(flows.contrastive(groups, self._texts, self._options.with_model(options)))

    def best_of_n(
        self, prompt: Prompt, completions: list[Completion], **options: Any
    ) -> scoring.BestOfN:
        """The best completion of one prompt."""
        group = {"prompt": prompt, "completions": completions}
        return self.best_of_n_groups([group], **options).results[0]

    def best_of_n_groups(self, groups: Items, **options: Any) -> scoring.BestOfNResponse:
        """The best completion of each of any number of groups, by one version."""
        return self._run(flows.best_of_n(groups, self._texts, self._options.with_model(options)))

    def put_baselines(self, items: Items) -> storage.PutBaselinesResponse:
        """Store baseline completions; each item replaces the set of its prompt and policy."""
        return self._run(records.put_baselines(items, self._texts))

    def lookup_baselines(
        self, prompt: Prompt, policy: str | None = None
    ) -> storage.LookupBaselinesResponse:
        """The stored baselines of a prompt."""
        return self._run(records.lookup_baselines(prompt, policy))

    def delete_baselines(
        self, prompt: Prompt, policy: str | None = None
    ) -> storage.DeleteBaselinesResponse:
        """Delete the stored baselines of a prompt."""
        return self._run(records.delete_baselines(prompt, policy))

    def post_samples(
        self, items: Items, idempotency_key: str | None = None
    ) -> storage.PostSamplesResponse:
        """Hand samples of the current policy to the online trainer; stored once, retries or not."""
        return self._run(records.post_samples(items, idempotency_key, self._texts))

    def models(self) -> ModelList:
        """The versions that the server can score with."""
        return self._run(records.models())

    def model(self, name: str) -> ModelCard:
        """One version, by `name@7`, or by `name` for the serving one."""
        return self._run(records.model(name))

    def promote(
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
        return self._run(records.promote(model, wait_s, swap_when, force=force))

    def rollback(
        self, name: str, *, wait_s: float = 0.0, swap_when: SwapWhen | None = None
    ) -> PromotionReply:
        """Let the previous version of `name` serve again; see `promote`."""
        return self._run(records.rollback(name, wait_s, swap_when))

    def promotion(self, identifier: str) -> PromotionReply:
        """How a promotion goes, or went in the last day."""
        return self._run(records.promotion(identifier))

    def health(self, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
        """Whether the server is alive; asks once."""
        return self._run(records.probe("/healthz"), timeout_s)

    def ready(self, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
        """Whether the server has its model loaded and takes new work; asks once."""
        return self._run(records.probe("/readyz"), timeout_s)

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _texts(self) -> int:
        return self._options.texts_per_request

    def _run(self, flow: flows.Flow[Result], timeout_s: float | None = None) -> Result:
        deadline = Deadline(self._options.timeout_s if timeout_s is None else timeout_s)
        try:
            requests = next(flow)
            while True:
                try:
                    bodies = self._send_all(requests, deadline)
                except AssayError as error:
                    requests = flow.throw(error)
                else:
                    requests = flow.send(bodies)
        except StopIteration as finished:
            result: Result = finished.value
            return result

    def _send_all(self, requests: list[Request], deadline: Deadline) -> list[bytes]:
        if len(requests) == 1:
            return [self._send(requests[0], deadline)]
        shared = copy(deadline)
        futures = [self._threads.submit(self._send, request, shared) for request in requests]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
            return [future.result() for future in futures]
        finally:
            shared.expire()
            for future in futures:
                future.cancel()

    def _send(self, request: Request, deadline: Deadline) -> bytes:
        attempt = 0
        while True:
            attempt += 1
            outcome = self._try(request, deadline)
            if isinstance(outcome, bytes):
                return outcome
            time.sleep(wait_before_retry(outcome, attempt, self._options.retries, deadline))

    def _try(self, request: Request, deadline: Deadline) -> bytes | Failure:
        left_s = deadline.left_s()
        try:
            with self._http.stream(
                request.method,
                request.path,
                content=request.body,
                headers=request.all_headers,
                timeout=httpx.Timeout(left_s, connect=min(left_s, CONNECT_TIMEOUT_S)),
            ) as response:
                body = b"".join(deadline.watch(response.iter_bytes()))
        except httpx.RequestError as error:
            return lost(request, error, self._options.server, deadline)
        return conclude(request, response, body)
