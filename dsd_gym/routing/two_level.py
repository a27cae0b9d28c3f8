"""Two levels: a tier by estimated finish, and the shortest queue inside."""

from __future__ import annotations

from collections.abc import Sequence

from dsd_gym.routing.lengths import RequestLengths
from dsd_gym.routing.rule import Rule, in_flight
from dsd_gym.routing.view import TargetView

TOKENS_A_ROUND = 2.7
"""Tokens of a verified window: between 2.64 and 2.82 for the texts that `dsd_gym.calibrate_acceptance` names."""


class TwoLevel(Rule):
    """A global router picks the tier (target class) by estimated finish; inside it the shortest queue is joined.

    The estimate is made of what each tier reports, averaged over its targets: the expected rounds, a round trip and a
    pass each, after a wait for as many departures as there are prompts yet to be read, and for a pass for each request
    that was sent there since. A global scheduler above local ones is what LLM fleets such as Llumnix have (Sun et al.,
    OSDI 2024).
    """

    reads_reports = True

    def __init__(self, views: Sequence[TargetView], seed: int, lengths: RequestLengths) -> None:
        super().__init__(views, seed, lengths)
        tiers: dict[int, list[TargetView]] = {}
        for view in views:
            tiers.setdefault(view.tier, []).append(view)
        self._tiers = list(tiers.values())

    def choose(self, stream: int, request_class: int = 0) -> TargetView:
        """Return the least busy target of the tier where the request should be done first."""
        rounds = self.lengths.expected_remaining(request_class, 0) / TOKENS_A_ROUND
        prompt_tokens = self.lengths.mean_prompt
        tier = min(self._tiers, key=lambda views: finish_ms(views, rounds, prompt_tokens))
        return min(tier, key=in_flight)


def finish_ms(tier: Sequence[TargetView], rounds: float, prompt_tokens: float) -> float:
    """Return the estimated ms from arrival to last token of a request of so many rounds, sent to this tier now.

    `prompt_tokens` is the mean of prompts, by which those that wait are counted.
    """
    iteration_ms = _mean([max(view.iteration_ms, view.one_token_iteration_ms) for view in tier])
    service_ms = rounds * (iteration_ms + _mean([view.rtt_ms for view in tier]))
    departure_ms = service_ms / max(1.0, _mean([view.report.batch_size for view in tier]))
    wait_ms = _mean([view.unread_tokens for view in tier]) / prompt_tokens * departure_ms
    return wait_ms + _mean([view.sent_since_report for view in tier]) * iteration_ms + service_ms


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
