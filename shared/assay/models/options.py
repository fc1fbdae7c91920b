"""How a reward model is loaded. Plain data, so that settings can carry it without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from assay.models.inputs import InputFormat, SystemPolicy


class LoadOptions(BaseModel):
    """Choices of the operator; a saved version's own manifest decides what it can."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str = Field(default="auto", description="`auto` = cuda if there is one, else cpu.")
    device_map: str | None = Field(
        default=None, description="transformers' `device_map`, for a model larger than one GPU."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="`auto` = float32 on a CPU, the checkpoint's own on a GPU."
    )
    pool: Literal["last", "transformers"] = Field(
        default="last",
        description="`transformers` pools one token early where pad and end token are the same.",
    )
    input_format: InputFormat | None = Field(
        default=None, description="None = the manifest's; else chat, pair or concat by tokenizer."
    )
    system: SystemPolicy = Field(
        default="error", description="A template that refuses system messages: error, or merge."
    )
    max_input_tokens: int | None = Field(
        default=None, ge=8, description="Longest input in tokens; None = the model's own limit."
    )
    trust_remote_code: str | None = Field(
        default=None, description="The one model (as named to Assay) whose own code may run."
    )
    allow_pickle: str | None = Field(
        default=None, description="The one model that may load weights other than safetensors."
    )
