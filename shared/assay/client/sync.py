"""The blocking client."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
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


class Client:
    """Talks to a reward server; safe to share between threads, not across a fork.

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
        self._http = httpx.Client(**self._options.httpx_arguments())  # type: ignore[arg-type]
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="assay-client")

    def score(
        self, prompt: Prompt, completions: list[Completion], **options: Any
    ) -> scoring.GroupScores:
        """Scores of the completions of one prompt."""
        group = {"prompt": prompt, "completions": completions}
        return self.score_groups([group], **options).results[0]

    def score_groups(self, groups: flows.Items, **options: Any) -> scoring.ScoreResponse:
        """Scores of any number of groups, by one version."""
        return self._run(flows.score(groups, self._texts, self._with_model(options)))

    def strength(
        self, prompt: Prompt, chosen: Completion, rejected: Completion, **options: Any
    ) -> scoring.PairStrength:
        """How strongly and how surely `chosen` is preferred."""
        pair = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        return self.strength_pairs([pair], **options).results[0]

    def strength_pairs(self, pairs: flows.Items, **options: Any) -> scoring.StrengthResponse:
        """Strength of any number of pairs, by one version."""
        return self._run(flows.strength(pairs, self._texts, self._with_model(options)))

    def contrastive(
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
        return self.contrastive_groups([group], **options).results[0]

    def contrastive_groups(
        self, groups: flows.Items, **options: Any
    ) -> scoring.ContrastiveResponse:
        """Contrastive rewards of any number of groups, by one version."""
        return self._run(flows.contrastive(groups, self._texts, self._with_model(options)))

    def best_of_n(
        self, prompt: Prompt, completions: list[Completion], **options: Any
    ) -> scoring.BestOfN:
        """The best completion of one prompt."""
        group = {"prompt": prompt, "completions": completions}
        return self.best_of_n_groups([group], **options).results[0]

    def best_of_n_groups(self, groups: flows.Items, **options: Any) -> scoring.BestOfNResponse:
        """The best completion of each of any number of groups, by one version."""
        return self._run(flows.best_of_n(groups, self._texts, self._with_model(options)))

    def put_baselines(self, items: flows.Items) -> storage.PutBaselinesResponse:
        """Store baseline completions; each item replaces the set of its prompt and policy."""
        return self._run(flows.put_baselines(items))

    def lookup_baselines(
        self, prompt: Prompt, policy: str | None = None
    ) -> storage.LookupBaselinesResponse:
        """The stored baselines of a prompt."""
        return self._run(flows.lookup_baselines(prompt, policy))

    def delete_baselines(
        self, prompt: Prompt, policy: str | None = None
    ) -> storage.DeleteBaselinesResponse:
        """Delete the stored baselines of a prompt."""
        return self._run(flows.delete_baselines(prompt, policy))

    def post_samples(
        self, items: flows.Items, idempotency_key: str | None = None
    ) -> storage.PostSamplesResponse:
        """Hand samples of the current policy to the online trainer; stored once, retries or not."""
        return self._run(flows.post_samples(items, idempotency_key))

    def models(self) -> ModelList:
        """The versions that the server can score with."""
        return self._run(flows.models())

    def model(self, name: str) -> ModelCard:
        """One version, by `name@7`, or by `name` for the serving one."""
        return self._run(flows.model(name))

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        self._threads.shutdown(wait=False)
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

    def _with_model(self, options: dict[str, Any]) -> dict[str, Any]:
        pin = {"model": self._options.model} if self._options.model else {}
        return {**pin, **options}

    def _run(self, flow: flows.Flow[Model]) -> Model:
        deadline_s = time.monotonic() + self._options.timeout_s
        try:
            requests = next(flow)
            while True:
                requests = self._advance(flow, self._send_all(requests, deadline_s))
        except StopIteration as finished:
            result: Model = finished.value
            return result

    def _advance(
        self, flow: flows.Flow[Model], replies: list[httpx.Response] | Exception
    ) -> list[Request]:
        return flow.throw(replies) if isinstance(replies, Exception) else flow.send(replies)

    def _send_all(
        self, requests: list[Request], deadline_s: float
    ) -> list[httpx.Response] | Exception:
        try:
            if len(requests) == 1:
                return [self._send(requests[0], deadline_s)]
            futures = [self._threads.submit(self._send, r, deadline_s) for r in requests]
            return [future.result() for future in futures]
        except Exception as error:  # noqa: BLE001 - handed to the flow, which raises or mends it
            return error

    def _send(self, request: Request, deadline_s: float) -> httpx.Response:
        attempt = 0
        while True:
            attempt += 1
            outcome = self._try(request, deadline_s)
            wait_s = wait_before_retry(outcome, attempt, self._options.retries)
            if wait_s is None:
                return conclude(outcome, self._options.url)
            if time.monotonic() + wait_s > deadline_s:
                raise too_late(self._options.timeout_s) from None
            time.sleep(wait_s)

    def _try(self, request: Request, deadline_s: float) -> Outcome:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise too_late(self._options.timeout_s)
        try:
            return self._http.request(
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
