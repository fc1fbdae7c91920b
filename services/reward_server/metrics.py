"""Every metric of the reward server, declared on an injected registry.

Stages have the same names here, in logs and in code: encode, queue, infer.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TOKENS = (16, 64, 256, 1024, 4096, 16_384, 65_536)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServerMetrics:
    """The metrics of one replica.

    Args:
        registry: where they are declared; one per app, so that apps in one process keep apart.
        replica: id of the replica, on the info metric.
        model: version that it serves.
    """

    def __init__(self, registry: CollectorRegistry, replica: str, model: str) -> None:
        self.registry = registry
        self._replica = replica
        self._info = Info("reward_server_replica", "The replica that answers", registry=registry)
        self.name_model(model)
        self.requests = Counter(
            "reward_server_requests_total",
            "Requests by route and status",
            ("route", "status"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "reward_server_request_seconds",
            "Time from the request's first byte to the reply's last",
            ("route",),
            registry=registry,
            buckets=SECONDS,
        )
        self.errors = Counter(
            "reward_server_errors_total", "Errors by kind", ("kind",), registry=registry
        )
        self.in_flight = Gauge(
            "reward_server_in_flight_requests", "Requests being answered", registry=registry
        )
        self.encode_seconds = _histogram("encode_seconds", "Tokenizing a request", registry)
        self.queue_seconds = _histogram("queue_seconds", "Waiting for a forward pass", registry)
        self.infer_seconds = _histogram("infer_seconds", "One forward pass", registry)
        self.batch_tokens = Histogram(
            "reward_server_batch_tokens",
            "Padded tokens of a forward pass",
            registry=registry,
            buckets=TOKENS,
        )
        self.batch_texts = Histogram(
            "reward_server_batch_texts", "Rows of a forward pass", registry=registry, buckets=TEXTS
        )
        self.queue_depth = Gauge(
            "reward_server_queue_texts", "Texts that wait for a forward pass", registry=registry
        )
        self.texts = Counter(
            "reward_server_texts_total",
            "Texts by how they were answered: scored, cached, shared with another, abandoned",
            ("outcome",),
            registry=registry,
        )
        self.split_prompts = Counter(
            "reward_server_split_prompts_total",
            "Prompts that two versions answered within group_window_s",
            registry=registry,
        )
        self.tapped = Counter(
            "reward_server_tapped_samples_total",
            "Scored groups for the online trainer: stored, dropped",
            ("outcome",),
            registry=registry,
        )
        self.left_out = Counter(
            "reward_server_untapped_completions_total",
            "Completions that are no samples: scored raw, or cut by the token limit",
            registry=registry,
        )
        self.rules = Counter(
            "reward_server_rule_texts_total",
            "Texts by component and what became of them: scored, none, failed, timeout",
            ("component", "outcome"),
            registry=registry,
        )
        self.switches = Counter(
            "reward_server_switches_total", "Switches to another version", registry=registry
        )

    def name_model(self, model: str) -> None:
        """The version that serves, on the info metric."""
        self._info.info({"replica": self._replica, "model": model})


def _histogram(stage: str, text: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(f"reward_server_{stage}", text, registry=registry, buckets=SECONDS)
