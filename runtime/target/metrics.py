"""What a target tells Prometheus, under vLLM's names with the prefix `dsd:`.

Times are in seconds, unlike elsewhere: Prometheus asks for base units (https://prometheus.io/docs/practices/naming).
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from runtime.messages import Verdict
from runtime.target.engine import Engine, Iteration

TIME_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
COUNT_BUCKETS = tuple(2**exponent for exponent in range(14))


class Metrics:
    """Counters of one engine, in a registry of their own. Safe to call from any thread."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self._drafts = self._counter("spec_decode_num_drafts", "Windows verified")
        self._draft_tokens = self._counter("spec_decode_num_draft_tokens", "Drafted tokens verified")
        self._accepted_tokens = self._counter("spec_decode_num_accepted_tokens", "Drafted tokens accepted")
        per_position = self._counter("spec_decode_num_accepted_tokens_per_pos", "The same by place", ["position"])
        self._accepted_at = [per_position.labels(place) for place in range(engine.limits.max_window)]
        self._generated = self._counter("generation_tokens", "Output tokens sent, accepted drafts included")
        self._prompt = self._counter("prompt_tokens", "Tokens prefilled")
        self._refusals = self._counter("request_refused", "Requests refused, or ended by the target", ["reason"])
        self._queue_s = self._histogram("request_queue_time_seconds", "Wait for a pass", TIME_BUCKETS_S)
        self._iteration_s = self._histogram("iteration_time_seconds", "Time of a pass", TIME_BUCKETS_S)
        self._batch = self._histogram("iteration_batch_size", "Requests in a pass", COUNT_BUCKETS)
        self._tokens = self._histogram("iteration_tokens_total", "Tokens in a pass", COUNT_BUCKETS)
        self._watch(engine)

    def count_iteration(self, iteration: Iteration) -> None:
        """Count a pass: the engine's observer."""
        self._iteration_s.observe(iteration.iteration_ms / 1000.0)
        self._batch.observe(iteration.batch_size)
        self._tokens.observe(iteration.tokens)
        for wait_ms in iteration.queue_waits_ms:
            self._queue_s.observe(wait_ms / 1000.0)
        self._prompt.inc(iteration.prefilled)
        for drafted, accepted in iteration.windows:
            self._drafts.inc()
            self._draft_tokens.inc(drafted)
            self._accepted_tokens.inc(accepted)
            for at_place in self._accepted_at[:accepted]:
                at_place.inc()

    def count_verdict(self, verdict: Verdict) -> None:
        """Count the tokens of a message to an edge."""
        self._generated.inc(verdict.accepted + len(verdict.tokens))

    def count_refusal(self, reason: str) -> None:
        """Count a request that the target did not serve to its end."""
        self._refusals.labels(reason).inc()

    def _watch(self, engine: Engine) -> None:
        """Read the engine whenever the page is asked for."""
        usage = self._gauge("kv_cache_usage_perc", "KV memory reserved; 1 is all")
        usage.set_function(lambda: engine.kv_tokens_used / engine.kv_budget_tokens)
        running = self._gauge("num_requests_running", "Requests that have KV memory")
        running.set_function(lambda: engine.sessions - engine.waiting)
        self._gauge("failed_passes", "Passes that failed").set_function(lambda: engine.failed_passes)
        self._gauge("num_requests_waiting", "Requests that wait for it").set_function(lambda: engine.waiting)

    def _counter(self, name: str, what: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"dsd:{name}", what, labels, registry=self.registry)

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(f"dsd:{name}", what, registry=self.registry)

    def _histogram(self, name: str, what: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"dsd:{name}", what, buckets=buckets, registry=self.registry)
