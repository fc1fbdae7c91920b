"""Settings of the reward server: `ASSAY_*` variables, `.env`, or flags of the same name."""

from __future__ import annotations

import ipaddress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from assay.models.options import LoadOptions
from assay.models.resolve import DEFAULT_MODEL
from assay.registry.settings import StoreSettings
from assay.schemas.boundary import Rules, TemplateName
from assay.schemas.components import Component, parse_components
from reward_server.keys import Keyring, parse_keys

RewardMode = Literal["score", "lcb", "contrastive"]


class ServerSettings(StoreSettings):
    """Everything that an operator can choose about one reward server."""

    components: Annotated[tuple[Component, ...], NoDecode] = Field(
        default=(),
        description='A composite, as JSON: `[{"model": NAME}, {"rule": "regex", "weight": 0.5, '
        '"options": {..}}]`. None = the score is the model\'s own.',
    )
    allow_code: Literal["code_tests"] | None = Field(
        default=None, description="The one rule that may run code out of completions."
    )
    rule_processes: int = Field(default=1, ge=1, description="Processes that run rules.")
    rule_timeout_s: float = Field(
        default=10.0, gt=0, description="A rule that takes longer gives that text no score."
    )

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port to listen on.")
    model: str = Field(
        default=DEFAULT_MODEL, min_length=1, description="Name, folder or hub id of the model."
    )
    load: LoadOptions = Field(
        default_factory=LoadOptions, description="How it is loaded: `ASSAY_LOAD__DTYPE` and so on."
    )
    redis_url: SecretStr | None = Field(
        default=None, description="None = no baselines, samples and promotions (503)."
    )
    keys: SecretStr | None = Field(
        default=None,
        description="`KEY[:scope+scope[:requests per minute]]`, separated by commas. None = no "
        "keys are asked for, and only loopback may be bound.",
    )

    replicas: int = Field(default=1, ge=1, description="Replicas at the start.")
    max_replicas: int | None = Field(
        default=None, ge=1, description="Scale between `replicas` and this many. None = fixed."
    )
    target_requests: int = Field(
        default=64, ge=1, description="Requests in flight per replica that scaling aims at."
    )
    cpus_per_replica: float = Field(default=0.5, ge=0, description="CPUs that Ray reserves.")
    gpus_per_replica: float = Field(default=0.0, ge=0, description="GPUs that Ray reserves.")
    torch_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of one forward pass; None = torch's choice."
    )
    address: str | None = Field(default=None, description="Ray cluster to join; None = an own one.")
    shared_store: bool = Field(
        default=False, description="True = the store's folder is mounted on every node."
    )

    max_batch_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Padded tokens in one forward pass; None = 1024 on a CPU, 16384 on a GPU. "
        "A longer input makes a batch of its own.",
    )
    max_queue_texts: int = Field(
        default=20_000, ge=1, description="Texts that may wait; beyond it the answer is 503."
    )
    max_request_texts: int = Field(
        default=10_000, ge=1, description="Texts in one request; beyond it the answer is 413."
    )
    max_body_bytes: int = Field(default=64 * 2**20, ge=1024, description="Size of a request body.")
    body_timeout_s: float = Field(
        default=60.0, gt=0, description="Time in which a request's body must have come; else 400."
    )
    cache_bytes: int = Field(default=64 * 2**20, ge=0, description="Score cache; 0 = none.")
    request_timeout_s: float = Field(default=300.0, gt=0, description="Deadline; beyond it 504.")
    drain_s: float = Field(default=30.0, gt=0, description="How long accepted requests may finish.")
    max_stream_entries: int = Field(
        default=100_000, ge=1, description="Samples in the stream; beyond it the answer is 503."
    )
    idempotency_ttl_s: int = Field(
        default=3600, ge=1, description="How long a retried request is recognised."
    )
    tap: bool = Field(
        default=False, description="True = what is scored also goes to the online trainer."
    )

    # The compatible routes.
    reward: RewardMode = Field(
        default="score",
        description="Which value is the reward there: `score`, `lcb`, or `contrastive`, which "
        "needs stored baselines at the start.",
    )
    template: TemplateName = Field(
        default="auto",
        description="Template of full texts: `auto` = recognised, `none` = texts as they are.",
    )
    strip_special_tokens: bool = Field(
        default=True, description="True = padding, BOS and EOS are taken off the ends of texts."
    )
    rerank_reply: Literal["vllm", "sglang"] = Field(
        default="vllm", description="Whose reply `/v1/rerank` gives, as the two ask alike."
    )
    compat_any_model: bool = Field(
        default=False, description="True = a body may name any model; the served one answers."
    )
    compat_wait_s: float = Field(
        default=10.0,
        ge=0,
        description="How long a request there waits for room in the queue or for its key's rate, "
        "before the answer is 503.",
    )

    pin_ttl_s: int = Field(
        default=900, ge=1, description="How long a pinned version stays after its last request."
    )
    swap_when: Literal["quiet", "now"] = Field(
        default="quiet", description="`quiet`: switch versions between groups; `now`: at once."
    )
    quiet_ms: int = Field(
        default=500, ge=1, description="Milliseconds without a score request that end a group."
    )
    quiet_deadline_s: float = Field(
        default=20.0, ge=0, description="Longest wait for quiet; then what is under way stays."
    )
    group_window_s: float = Field(
        default=10.0, gt=0, description="Two versions within it split a group; they are counted."
    )
    prepare_timeout_s: float = Field(
        default=300.0, gt=0, description="How long every replica may load a version that comes."
    )
    max_resident_bytes: int | None = Field(
        default=None,
        ge=1,
        description="Weights of all resident versions; beyond it the previous one leaves the "
        "device, then a promotion is refused. None = no bound.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("components", mode="before")
    @classmethod
    def _read_components(cls, value: object) -> object:
        return parse_components(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> ServerSettings:
        self.keyring  # noqa: B018 - parses the keys, so that a bad one stops the start
        if self.max_queue_texts < self.max_request_texts:
            raise ValueError(
                f"max_request_texts {self.max_request_texts} exceeds max_queue_texts "
                f"{self.max_queue_texts}: lower the first or raise the second"
            )
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below replicas {self.replicas}")
        if not self.keyring.keys and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from outside and no keys are set: "
                "set ASSAY_KEYS, or bind 127.0.0.1"
            )
        return self

    @cached_property
    def keyring(self) -> Keyring:
        """The parsed keys; empty = no key is asked for."""
        return parse_keys(self.keys.get_secret_value() if self.keys else "")

    @property
    def text_rules(self) -> Rules:
        """How full texts are read."""
        return Rules(self.template, self.strip_special_tokens)

    @property
    def store_path(self) -> Path | None:
        """The store as a folder; None = it is in a bucket.

        Raises:
            ValueError: it is neither.
        """
        url = self.store_url
        if url.startswith("s3://"):
            return None
        if "://" in url and not url.startswith("file://"):
            raise ValueError(f"store {url}: folders, file:// and s3:// are supported")
        return Path(url.removeprefix("file://")).expanduser().absolute()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
