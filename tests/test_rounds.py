"""Rounds as an array: the same rounds, whichever way they are kept and read."""

from __future__ import annotations

from typing import get_type_hints

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dsd_gym.distribution import Exact
from dsd_gym.records import Records, Round
from dsd_gym.rounds import RoundTable, as_array, as_rounds
from dsd_gym.tally import Tally
from dsd_gym.vector.kept import KeptRounds
from dsd_gym.vector.layout import ROUND

VALUES = {int: st.integers(0, 100), float: st.floats(0, 1e6)}
lists_of_rounds = st.lists(st.builds(Round, **{name: VALUES[kind] for name, kind in get_type_hints(Round).items()}))


@given(lists_of_rounds)
def test_a_table_is_the_sequence_of_its_rounds(rounds: list[Round]) -> None:
    array = as_array(rounds)
    table = RoundTable(array)
    assert as_rounds(array) == list(table) == rounds == [table[index] for index in range(len(table))]
    assert table == rounds and rounds == table and len(table) == len(rounds)
    assert table[1:] == rounds[1:] and (not rounds or table != rounds[1:])
    assert as_array(table) is array
    assert all(type(value) in (int, float) for round in table for value in round)


@given(lists_of_rounds, st.floats(0, 1e6), st.floats(0, 1e6))
def test_rounds_one_by_one_and_all_together_count_alike(rounds: list[Round], start_ms: float, end_ms: float) -> None:
    """And as the definitions say, one round after another; bytes to the rounding of sums in another order."""
    run = Records("", 0, start_ms, end_ms, 0.0, 0.0, 0.0, 0.0)
    streamed, whole = Tally(Exact), Tally(Exact)
    streamed.begin(run)
    whole.begin(run)
    for round in 3 * rounds:
        streamed.add_round(round)
    streamed.end(run)
    whole.add_rounds(as_array(3 * rounds))
    inside = [round for round in 3 * rounds if start_ms <= round.end_ms < end_ms]
    verified = [round for round in inside if round.drafted]
    for counts in (streamed.counts, whole.counts):
        assert (counts.rounds, counts.verified) == (len(inside), len(verified))
        assert counts.committed == sum(round.committed for round in inside)
        assert counts.cloud_tokens == sum(round.cloud_tokens for round in inside)
        assert counts.accepted == sum(round.accepted for round in verified)
        assert counts.drafted == sum(round.drafted for round in verified)
        assert counts.won == sum(round.committed - round.cloud_tokens for round in verified)
        np.testing.assert_allclose(counts.uplink_bytes, sum(round.uplink_bytes for round in inside), rtol=1e-12)
        np.testing.assert_allclose(counts.downlink_bytes, sum(round.downlink_bytes for round in inside), rtol=1e-12)


@given(st.lists(st.lists(st.integers(0, 4), max_size=9)), st.integers(1, 12))
def test_the_rounds_of_a_place_come_back_in_their_order(steps: list[list[int]], pile: int) -> None:
    kept, number = KeptRounds(5), 0
    expected: list[list[int]] = [[] for _ in range(5)]
    for places in steps:
        rounds = np.zeros(len(places), ROUND)
        rounds["deployment"], rounds["stream"] = places, np.arange(number, number + len(places))
        for place, stream in zip(places, rounds["stream"].tolist(), strict=True):
            expected[place].append(stream)
        number += len(places)
        kept.add(rounds)
        rounds["stream"] = -1  # the log is written over
        if number % pile == 0:
            place = number % 5
            assert kept.take(place)["stream"].tolist() == expected[place]
            expected[place] = []
    for place in range(5):
        assert kept.take(place)["stream"].tolist() == expected[place]
        assert not len(kept.take(place))
