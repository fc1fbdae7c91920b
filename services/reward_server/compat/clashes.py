"""Paths that two systems share: the body says whose request it is.

| path | body | whose |
| --- | --- | --- |
| `/classify` | `text` or `input_ids` | SGLang |
| | else | vLLM |
| `/rerank` | `texts` | TEI |
| | else | vLLM |
| `/v1/score` | `groups` | Assay |
| | `query` and `items` | SGLang |
| | `queries`, `data_1` or `text_1` | vLLM |
| | else | Assay |
| `/v1/rerank` | equal | vLLM or SGLang, by the setting `rerank_reply` |
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import Discriminator, Tag

from reward_server.compat import sglang, tei, vllm
from reward_server.compat.errors import describe
from reward_server.compat.sglang_bodies import ClassifyBody as SglangClassifyBody
from reward_server.compat.sglang_bodies import Ranked as SglangRanked
from reward_server.compat.sglang_bodies import Scored
from reward_server.compat.tei_bodies import Rank
from reward_server.compat.tei_bodies import RerankBody as TeiRerankBody
from reward_server.compat.vllm_bodies import (
    ChatBody,
    ClassifyReply,
    RerankBody,
    RerankReply,
    TextBody,
)
from reward_server.routes.dependencies import RuntimeDep, StrictJSONRequest, StrictJSONRoute
from reward_server.routes.score import SCORING_ERRORS
from reward_server.routes.score import score as native_score

if TYPE_CHECKING:
    from reward_server.compat.errors import Dialect

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
