"""The rules of papers: each against brute force, a closed form or a toy in which the best answer is known."""

from itertools import product
from math import inf

import numpy as np
import pytest
from observed import a_round, observed

from agents import make_controller
from agents.average_reward import AverageReward
from agents.leviathan import Leviathan
from agents.specdec import SpecDec
from agents.turbospec import TurboSpec
from agents.ucb import LOADS, WINDOWS, Ucb, kind_of
from dsd_gym.metrics import summarise
from dsd_gym.observation import Observation
from dsd_gym.pricing import round_ms_per_token, round_tokens
from dsd_gym.scenario import EdgeClass, Lengths, LinkSpec, Scenario, Workload
from dsd_gym.simulator import simulate

SMALL = Scenario(
    edges=(EdgeClass(count=4, draft_ms_per_token=4.0),),
    link=LinkSpec(rtt_ms=10.0),
    workload=Workload(rate_per_s=3.0),
    lengths=Lengths(100, 100, 60, 50),
    warm_up_ms=0.0,
    horizon_ms=5000.0,
)


# --- turbospec ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link_weight", [0.0, 1.0])
@pytest.mark.parametrize(("batch", "marginal"), [(1, 0.05), (20, 0.05), (60, 0.3)])
@pytest.mark.parametrize("acceptance", [0.3, 0.7, 0.95])
@pytest.mark.parametrize(("draft_ms", "rtt_ms"), [(1.0, 5.0), (8.0, 5.0), (8.0, 80.0), (40.0, 5.0)])
def test_turbospec_is_the_argmax_of_goodput(
    link_weight: float, batch: int, marginal: float, acceptance: float, draft_ms: float, rtt_ms: float
) -> None:
    """Sum of a^i x batch / (k t_d + RTT + the pass that was reported, grown to batch x (k + 1) tokens)."""

    def goodput(k: int) -> float:
        tokens = sum(acceptance**i for i in range(k + 1)) * batch
        pass_ms = max(30.0, 45.0 + marginal * (batch * (k + 1) - 5 * batch))
        return float(tokens / (pass_ms + k * draft_ms + (link_weight * rtt_ms if k else 0.0)))

    seen = observed(
        acceptance_estimate=acceptance,
        batch_size=batch,
        iteration_ms=45.0,
        iteration_tokens=5 * batch,
        marginal_ms_per_token=marginal,
        draft_ms_per_token=draft_ms,
        smoothed_rtt_ms=rtt_ms,
    )
    expected = max(range(13), key=goodput)
    assert TurboSpec(12, link_weight, cloud_margin=0.0).decide(seen, 0).window == expected


def test_turbospec_asks_more_of_the_cloud_by_its_margin() -> None:
    seen = observed(smoothed_rtt_ms=60.0)
    assert TurboSpec(12, 1.0, cloud_margin=0.0).decide(seen, 0).window == 0
    assert TurboSpec(12, 1.0, cloud_margin=0.9).decide(seen, 0).window > 0


# --- average-reward -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("acceptance", [0.3, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("rtt_ms", [1.0, 20.0, 60.0, 150.0])
@pytest.mark.parametrize("draft_ms", [1.0, 8.0, 30.0])
def test_average_reward_learns_the_brute_force_optimum(acceptance: float, rtt_ms: float, draft_ms: float) -> None:
    """Where nothing changes, the rate that the rule earns and the rule's window settle on argmax E(k) / T(k)."""
    seen = observed(
        acceptance_estimate=acceptance,
        first_guess_confidence=acceptance,
        smoothed_rtt_ms=rtt_ms,
        draft_ms_per_token=draft_ms,
        marginal_ms_per_token=0.0,
    )
    rule = AverageReward(12, price=0.0, cloud_margin=inf)
    for _ in range(60):
        window = rule.decide(seen, 0).window
        round_ms = round_tokens(seen, window) * round_ms_per_token(seen, window, 0.0)
        rule.record(a_round(start_ms=0.0, end_ms=round_ms, committed=round_tokens(seen, window)))
    best = min(range(1, 13), key=lambda k: round_ms_per_token(seen, k, 0.0))
    assert window == best


def test_average_reward_forgets_a_wrong_rate() -> None:
    """Told that it earns a token a ms, it drafts the least; rounds as they are bring it back to the optimum."""
    rule, seen = AverageReward(12, price=0.0, cloud_margin=inf, memory_ms=2000.0), observed(draft_ms_per_token=3.0)
    best = rule.decide(seen, 0).window
    rule.record(a_round(start_ms=0.0, end_ms=5000.0, committed=5000))
    assert rule.decide(seen, 0).window == 1 < best
    for _ in range(300):
        window = rule.decide(seen, 0).window
        round_ms = round_tokens(seen, window) * round_ms_per_token(seen, window, 0.0)
        rule.record(a_round(start_ms=0.0, end_ms=round_ms, committed=round_tokens(seen, window)))
    assert window == best


def test_the_round_trip_of_the_moment_is_sunk() -> None:
    """With a rate learned at 20 ms, a slow moment of 200 ms does not stretch the window as an own ratio does."""
    rule, usual, slow = AverageReward(12, 0.0, inf), observed(), observed(smoothed_rtt_ms=200.0)
    for _ in range(500):
        window = rule.decide(usual, 0).window
        round_ms = round_tokens(usual, window) * round_ms_per_token(usual, window, 0.0)
        rule.record(a_round(start_ms=0.0, end_ms=round_ms, committed=round_tokens(usual, window)))
    stretched = min(range(1, 13), key=lambda k: round_ms_per_token(slow, k, 0.0))
    assert window <= rule.decide(slow, 0).window <= window + 1 < stretched


def test_a_device_has_its_own_rate_and_a_price_shortens_in_a_crowd() -> None:
    rule = AverageReward(12, price=0.0, cloud_margin=inf)
    for stream, device in ((0, 0), (1, 0), (2, 1)):
        rule.begin(stream, device, 0)
    rule.record(a_round(stream=0, end_ms=50_000.0, committed=50_000))
    windows = [rule.decide(observed(draft_ms_per_token=3.0), stream).window for stream in (0, 1, 2)]
    assert windows[0] == windows[1] == 1 < windows[2]
    crowd = observed(batch_size=40, marginal_ms_per_token=0.1, draft_ms_per_token=2.0)
    cheap, dear = (AverageReward(12, price, cloud_margin=inf) for price in (0.0, 4.0))
    assert dear.decide(crowd, 0).window < cheap.decide(crowd, 0).window


# --- specdec --------------------------------------------------------------------------------------------------------


def test_specdec_hands_on_its_threshold_and_goes_to_the_cloud_where_leviathan_does() -> None:
    rule = SpecDec(12, stop_threshold=0.7, cloud_margin=0.1)
    for rtt_ms, acceptance in product((1.0, 30.0, 90.0, 300.0), (0.3, 0.7, 0.95)):
        seen = observed(smoothed_rtt_ms=rtt_ms, acceptance_estimate=acceptance)
        decision = rule.decide(seen, 0)
        assert (decision.window == 0) == (Leviathan(12, cloud_margin=0.1).decide(seen, 0).window == 0)
        assert decision.window == 0 or decision == (12, 0.7)
    assert SpecDec(12, 0.7, cloud_margin=None).decide(observed(smoothed_rtt_ms=3000.0), 0) == (12, 0.7)


def test_published_constants_are_kept_beside_the_tuned() -> None:
    """SpecDec++ stops at h = .3 and has no cloud; TurboSpec has no link; SGLang starts at the windows it ships."""
    far = observed(smoothed_rtt_ms=3000.0)
    assert make_controller("specdec:published", 12).decide(far, 0) == (12, 0.7)
    turbo = make_controller("turbospec:published", 12)
    assert turbo.decide(far, 0) == turbo.decide(observed(), 0) != (0, None)
    sglang = make_controller("sglang:published", 12)
    assert [sglang.decide(observed(batch_size=batch), 0).window for batch in (7, 31, 63, 64)] == [3, 3, 1, 0]


def test_a_lower_threshold_drafts_longer() -> None:
    runs = [summarise(simulate(SMALL, SpecDec(12, h, cloud_margin=None), 0)) for h in (0.9, 0.3, 0.03)]
    windows = [run["mean_window"] for run in runs]
    assert 1.0 <= windows[0] < windows[1] < windows[2] < 12.0


# --- ucb ------------------------------------------------------------------------------------------------------------


LONG_WINS = {window: 0.01 * (1 + window) for window in range(13)}
CLOUD_WINS = {window: 0.1 / (1 + window) for window in range(13)}


def played(rule: Ucb, rates: dict[int, float], rounds: int, seen: Observation, stream: int = 0) -> list[int]:
    """Return the windows played where window k earns `rates[k]` tokens a ms, 100 ms a round."""
    windows = []
    for _ in range(rounds):
        window = rule.decide(seen, stream).window
        rule.record(a_round(stream=stream, window=window, end_ms=100.0, committed=100.0 * rates[window]))
        windows.append(window)
    return windows


@pytest.mark.parametrize("best", WINDOWS)
@pytest.mark.parametrize("hold", [1, 4])
def test_ucb_converges_to_the_best_arm(best: int, hold: int) -> None:
    """Arms a tenth worse or more: at exploration .1 the index of a worse arm is lower after some ten pulls of it."""
    rates = {window: 0.05 if window == best else 0.045 - 0.001 * window for window in range(13)}
    windows = played(Ucb(12, exploration=0.1, hold=hold), rates, 1500, observed())
    assert windows[-500:].count(best) > 450
    assert set(windows) == set(WINDOWS), "each was tried"


def test_ucb_keeps_loads_apart_and_an_arm_for_a_while() -> None:
    rule = Ucb(12, exploration=0.1, hold=4)
    quiet, busy = observed(batch_size=1), observed(batch_size=LOADS[-1])
    assert played(rule, LONG_WINS, 400, quiet)[-100:].count(8) > 80
    assert played(rule, CLOUD_WINS, 400, busy)[-100:].count(0) > 80
    windows = played(Ucb(12, exploration=0.1, hold=4), LONG_WINS, 64, quiet)
    assert all(len(set(windows[i : i + 4])) == 1 for i in range(0, 64, 4))


def test_a_device_unlike_its_kind_learns_so() -> None:
    rule = Ucb(12, exploration=1.0, hold=1)
    rule.begin(0, 0, 0)
    rule.begin(1, 1, 0)
    played(rule, LONG_WINS, 400, observed(), stream=0)
    windows = played(rule, CLOUD_WINS, 1500, observed(), stream=1)
    assert windows[0] == 8, "it begins where its kind is"
    assert max(set(windows[-300:]), key=windows[-300:].count) == 0


def test_kinds_are_kept_apart() -> None:
    """A device far away does not begin where those nearby are."""
    rule = Ucb(12, exploration=0.1, hold=1)
    rule.begin(1, 1, 0)
    played(rule, LONG_WINS, 400, observed(smoothed_rtt_ms=2.0))
    assert rule.decide(observed(smoothed_rtt_ms=100.0), 1).window == WINDOWS[0], "nothing is known there"
    assert kind_of(observed(smoothed_rtt_ms=4.0)) == kind_of(observed(smoothed_rtt_ms=11.0)) == (0, 1, 3)
    assert kind_of(observed(smoothed_rtt_ms=12.0, batch_size=10, draft_ms_per_token=1.0)) == (2, 2, 1)


def test_the_round_after_a_change_of_place_teaches_nothing() -> None:
    """It pays a round trip that staying there does not."""
    rule = Ucb(12, exploration=0.1, hold=1)
    rule.begin(0, 0, 0)
    assert rule.decide(observed(), 0).window == 0
    rule.record(a_round(window=0, end_ms=1e6, committed=8))
    assert rule.decide(observed(), 0).window == 0, "still untried"
    rule.record(a_round(window=0, end_ms=80.0, committed=8))
    assert rule.decide(observed(), 0).window == WINDOWS[1]


def test_ucb_needs_no_luck() -> None:
    random = np.random.default_rng(0)
    rates = {window: float(random.uniform(0.01, 0.1)) for window in range(13)}
    assert played(Ucb(12), rates, 300, observed()) == played(Ucb(12), rates, 300, observed())
