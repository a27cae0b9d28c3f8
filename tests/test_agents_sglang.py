"""SGLang's rule, step by step against numbers worked out by hand."""

import pytest
from observed import a_round, observed

from agents.sglang import LADDERS, SGLang, Slot

HIGH = LADDERS[0]
assert HIGH.windows == (1, 3, 5, 7) and HIGH.down_hysteresis == -0.25


def slot(*windows: int, first: int = 3, down: float = 0.0) -> Slot:
    return Slot(windows, first, 0.2, (down, 0.0))


def after(slot: Slot, accepted: float | None, batches: int) -> list[int]:
    """Return the window after each of `batches` batches with that mean of accepted drafts."""
    windows = []
    for _ in range(batches):
        slot.batch(accepted)
        windows.append(slot.window)
    return windows


def test_the_mean_starts_one_below_the_window_and_forgets_by_a_fifth() -> None:
    one = slot(*HIGH.windows)
    assert (one.window, one.mean_accepted) == (3, 2.0)
    after(one, 0.0, 2)
    assert one.mean_accepted == pytest.approx(2.0 * 0.8**2)
    assert slot(1, 3, 5, 7, first=4).window == 5, "the middle of the ladder where the first window is not on it"
    assert slot(0, 1).window == 1


def test_it_steps_every_fifth_batch_after_ten() -> None:
    """2 x .8^15 = .07, at most 1 - .5 - .25: down to 1, but not before the fifteenth batch."""
    one = slot(*HIGH.windows, down=-0.25)
    assert after(one, 0.0, 15) == [3] * 14 + [1]
    assert after(one, 1.0, 5) == [1] * 4 + [3], "1 - .93 x .8^5 = .70, above 1 - .5"
    assert after(one, 3.0, 10) == [3] * 9 + [5], "2.24 after five batches, 2.75 after ten: above 3 - .5"


def test_the_way_down_is_held_back_by_the_hysteresis() -> None:
    """At 5, the next lower is 3: down at 3 - .5 - .25 = 2.25. A mean of 2.30 stays, which would go without it."""
    held, free = (slot(*HIGH.windows, first=5, down=down) for down in (-0.25, 0.0))
    for one in (held, free):
        one.mean_accepted = 2.0 + 0.301 / 0.8**15
        after(one, 2.0, 15)
        assert one.mean_accepted == pytest.approx(2.301)
    assert (held.window, free.window) == (5, 3)
    assert after(held, 2.0, 5)[-1] == 3, "2.10"


def test_it_takes_several_steps_at_once() -> None:
    assert after(slot(*HIGH.windows, first=7, down=-0.25), 0.0, 15)[-1] == 1, ".21: under 4.25, 2.25 and .25"
    assert after(slot(*HIGH.windows, first=1), 6.0, 15)[-1] == 7, "5.79: above .5, 2.5 and 4.5"


def test_window_zero_is_left_for_a_probe_after_five_batches_always() -> None:
    """Nothing is drafted at 0, so its mean stands still; a probe that fails goes back after five batches."""
    one = slot(0, 1, 3)
    assert after(one, 0.0, 15)[-1] == 0, ".07 is at most .5, twice"
    stood = one.mean_accepted
    assert after(one, None, 5) == [0] * 4 + [1]
    assert after(one, 0.0, 5) == [1] * 4 + [0]
    assert one.mean_accepted == pytest.approx(stood * 0.8**5)
    assert after(one, 5.0, 5)[-1] == 1, "drafts that were on their way do not count at 0"
    assert one.mean_accepted == pytest.approx(stood * 0.8**5)
    assert after(one, 1.0, 5)[-1] == 3, "a probe that succeeds climbs on"


def test_a_ladder_that_starts_at_zero_begins_its_first_probe_neutrally() -> None:
    one = slot(0, 3, first=0)
    assert one.mean_accepted == -1.0
    assert after(one, None, 15)[-1] == 3
    assert one.mean_accepted == 2.0


def test_a_ladder_of_zero_alone_stays() -> None:
    assert set(after(slot(0), None, 100)) == {0}


def test_rounds_make_a_batch_by_their_shares_of_it() -> None:
    """Three of a batch of four are not yet a batch; the fourth makes it one, with the mean of the four."""
    one = slot(*HIGH.windows)
    for accepted in (3, 3, 0):
        one.verified(a_round(batch_size=4, accepted=accepted))
    assert one.mean_accepted == 2.0
    one.verified(a_round(batch_size=4, accepted=0))
    assert one.mean_accepted == pytest.approx(0.8 * 2.0 + 0.2 * 1.5)


def test_a_cloud_chunk_counts_a_pass_for_each_token() -> None:
    """Eight tokens in passes of two requests are four batches of the two: the probe comes after 15 batches."""
    chunk = a_round(window=0, drafted=0, accepted=0, cloud_tokens=8, committed=8, batch_size=2)
    one = slot(0, 1, first=0)
    for _ in range(3):
        one.verified(chunk)
    assert one.window == 0, "12 batches"
    one.verified(chunk)
    assert one.window == 1


@pytest.mark.parametrize(("batch_size", "window"), [(0, 3), (1, 3), (7, 3), (8, 3), (31, 3), (32, 1), (63, 1), (64, 0)])
def test_the_reported_batch_size_picks_the_ladder(batch_size: int, window: int) -> None:
    """First windows: 3 where it is on the ladder, else the middle."""
    assert SGLang(12, first_window=3, batch_scale=1.0).decide(observed(batch_size=batch_size), 0).window == window


def test_each_target_has_its_own_state_and_all_its_streams_share_it() -> None:
    rule = SGLang(12, first_window=3, batch_scale=1.0)
    for stream, target in ((0, 0), (1, 0), (2, 1)):
        rule.begin(stream, stream, target)
    for _ in range(15):
        rule.record(a_round(stream=0, accepted=0))
    assert [rule.decide(observed(batch_size=1), stream).window for stream in (0, 1, 2)] == [1, 1, 3]
    rule.forget(0)
    assert rule.decide(observed(batch_size=1), 1).window == 1


def test_windows_beyond_the_longest_are_cut() -> None:
    assert SGLang(2, first_window=3, batch_scale=1.0).decide(observed(batch_size=1), 0).window == 2
    assert SGLang(1, first_window=3, batch_scale=1.0).decide(observed(batch_size=40), 0).window in (0, 1)
