"""The page for Prometheus: every name is there, and the figures are those of the sessions served."""

from __future__ import annotations

import asyncio
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dsd_gym.config import ConfigError
from runtime.messages import Refused
from tests.target_serving import PROMPT, greedy, remote, request, serving, speculate, until

COUNTERS = {
    "spec_decode_num_drafts",
    "spec_decode_num_draft_tokens",
    "spec_decode_num_accepted_tokens",
    "spec_decode_num_accepted_tokens_per_pos",
    "generation_tokens",
    "prompt_tokens",
    "request_refused",
}
GAUGES = {"kv_cache_usage_perc", "num_requests_running", "num_requests_waiting", "failed_passes"}
HISTOGRAMS = {
    "request_queue_time_seconds",
    "iteration_time_seconds",
    "iteration_batch_size",
    "iteration_tokens_total",
}

Page = dict[tuple[str, str], float]


async def page(port: int | None) -> tuple[Page, dict[str, str]]:
    """Return the samples by name and label, and the type of each family."""

    def fetch() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text: str = answer.read().decode()
            return text

    families = list(text_string_to_metric_families(await asyncio.to_thread(fetch)))
    samples = {
        (sample.name.removeprefix("dsd:"), next(iter(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
    }
    return samples, {family.name.removeprefix("dsd:"): family.type for family in families}


def test_page_counts_what_was_served() -> None:
    async def run() -> None:
        async with serving(metrics_port=0) as (engine, server), remote(server.port) as target:
            for _ in range(3):
                await speculate(await target.open(request(40)), greedy(PROMPT, 40))
            with pytest.raises(Refused):
                await target.open(request(40, prompt=()))
            await until(lambda: engine.sessions == 0)
            samples, types = await page(server.metrics_port)
            assert {name for name, kind in types.items() if kind == "counter"} >= COUNTERS
            assert {name for name, kind in types.items() if kind == "gauge"} >= GAUGES
            assert {name for name, kind in types.items() if kind == "histogram"} == HISTOGRAMS

            def count(name: str, label: str = "") -> float:
                return samples[f"{name}_total", label]

            assert count("generation_tokens") == 3 * 40
            assert count("prompt_tokens") == 3 * len(PROMPT)
            assert count("request_refused", "invalid") == 1
            drafts, accepted = count("spec_decode_num_drafts"), count("spec_decode_num_accepted_tokens")
            assert drafts > 0 and count("spec_decode_num_draft_tokens") >= accepted > 0
            first_tokens, most_cut = 3, 3  # the last window of a request may have no room for the target's own token
            own_tokens = count("generation_tokens") - accepted - first_tokens
            assert drafts - most_cut <= own_tokens <= drafts
            places = [count("spec_decode_num_accepted_tokens_per_pos", str(place)) for place in range(16)]
            assert sum(places) == accepted and places == sorted(places, reverse=True) and places[0] <= drafts
            assert samples["iteration_time_seconds_count", ""] == samples["iteration_batch_size_count", ""]
            assert 0 < samples["iteration_time_seconds_sum", ""] < 30
            assert samples["iteration_tokens_total_sum", ""] >= count("spec_decode_num_draft_tokens") + drafts
            assert samples["request_queue_time_seconds_count", ""] == drafts + 3

    asyncio.run(run())


def test_gauges_follow_the_engine() -> None:
    async def run() -> None:
        async with serving(metrics_port=0) as (engine, server), remote(server.port) as target:
            stream = await target.open(request(40))
            await stream.receive()
            samples, _ = await page(server.metrics_port)
            assert samples["num_requests_running", ""] == 1 and samples["num_requests_waiting", ""] == 0
            assert samples["kv_cache_usage_perc", ""] == engine.kv_tokens_used / engine.kv_budget_tokens > 0
            await stream.close()
            await until(lambda: engine.sessions == 0)
            engine.failed_passes = 2
            samples, _ = await page(server.metrics_port)
            assert samples["failed_passes", ""] == 2
            assert samples["num_requests_running", ""] == samples["kv_cache_usage_perc", ""] == 0

    asyncio.run(run())


def test_metrics_port_in_use_is_one_clear_line() -> None:
    async def run() -> None:
        async with serving(metrics_port=0) as (_, server):
            with pytest.raises(ConfigError, match=f"127.0.0.1:{server.metrics_port}: cannot show metrics"):
                async with serving(metrics_port=server.metrics_port):
                    pass

    asyncio.run(run())
