"""What a server counts and times, for Prometheus and for its log."""

from typing import Final, Literal

from vla_kit.errors import MissingExtraError

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
except ImportError as error:
    raise MissingExtraError("prometheus_client", extra="serving") from error

__all__ = ["Outcome", "ServingMetrics"]

Outcome = Literal["answered", "invalid", "refused", "failed"]
"""What became of a request: actions, the client's mistake, too much to do, or the server's mistake."""

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)


class ServingMetrics:
    """Counters and histograms of one server, in a registry of their own.

    Examples:
        >>> metrics = ServingMetrics()
        >>> metrics.count("answered")
        >>> metrics.request_seconds.observe(0.02)
        >>> "vla_kit_request_seconds_count 1.0" in metrics.text()
        True
        >>> metrics.summary()
        '1 answered, 0 invalid, 0 refused, 0 failed; 50 % within 25 ms, 95 % within 25 ms'
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "vla_kit_requests", "Requests by what became of them.", ["outcome"], registry=self.registry
        )
        for outcome in ("answered", "invalid", "refused", "failed"):
            self.requests.labels(outcome)  # so that each is there from the start, at 0
        self.connections = Gauge("vla_kit_connections", "Open connections.", registry=self.registry)
        self.waiting = Gauge("vla_kit_waiting", "Requests that wait for the policy.", registry=self.registry)
        self.request_seconds = self._histogram("request", "From the last byte of a message to the first of its answer.")
        self.queue_seconds = self._histogram("queue", "Time for which a request waited for the policy.")
        self.policy_seconds = self._histogram("policy", "Time for which the policy computed one batch.")
        self.batch_size = Histogram(
            "vla_kit_batch_size", "Requests per batch.", buckets=_BATCHES, registry=self.registry
        )

    def _histogram(self, name: str, meaning: str) -> Histogram:
        return Histogram(f"vla_kit_{name}_seconds", meaning, buckets=_SECONDS, registry=self.registry)

    def count(self, outcome: Outcome) -> None:
        """Count one request."""
        self.requests.labels(outcome).inc()

    def text(self) -> str:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry).decode()

    def summary(self) -> str:
        """One line for the log: the counts, and bounds of the median and the 95 % quantile of the answers' time."""
        counts = ", ".join(
            f"{self.registry.get_sample_value('vla_kit_requests_total', {'outcome': outcome}) or 0:.0f} {outcome}"
            for outcome in ("answered", "invalid", "refused", "failed")
        )
        shares = ", ".join(f"{share:.0%} within {self._bound(share)}".replace("%", " %") for share in (0.5, 0.95))
        return f"{counts}; {shares}"

    def _bound(self, share: float) -> str:
        samples = [sample for metric in self.request_seconds.collect() for sample in metric.samples]
        buckets = [(float(sample.labels["le"]), sample.value) for sample in samples if "le" in sample.labels]
        total = buckets[-1][1]
        bound = next((limit for limit, count in buckets if total and count >= share * total), None)
        return "no time" if bound is None else f"{1000 * bound:g} ms"
