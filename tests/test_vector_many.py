"""So many deployments that their arrays lie in huge pages, and grow there: each is what it is alone."""

from __future__ import annotations

import numpy as np

from dsd_gym.vector.env import EdgeCloudVectorEnv
from dsd_gym.vector.rows import _MANY, _ODD

SOURCE = "train/broad"
COUNT = 300


def test_a_deployment_among_many_is_what_it_is_alone() -> None:
    many, places = EdgeCloudVectorEnv(COUNT, SOURCE), (0, 131, COUNT - 1)
    observed, _ = many.reset(seed=7)
    alone = [EdgeCloudVectorEnv(1, SOURCE) for _ in places]
    for env, place in zip(alone, places, strict=True):
        np.testing.assert_array_equal(env.reset(seed=7 + place)[0][0], observed[place])
    random = np.random.default_rng(0)
    for _ in range(150):
        windows = random.integers(0, many.max_window + 1, COUNT)
        every = many.step(windows)[:4]
        for env, place in zip(alone, places, strict=True):
            for own, theirs in zip(env.step(windows[[place]])[:4], every, strict=True):
                assert own[0].tolist() == theirs[place].tolist()


def test_arrays_of_many_are_clear_and_rows_no_power_of_two_apart() -> None:
    world = EdgeCloudVectorEnv(COUNT, SOURCE)._fleet._world
    large = {name: array for name, array in world._asdict().items() if array.nbytes >= _MANY}
    assert {"requests", "confidence", "accepted"} <= set(large)
    assert not large["confidence"].any() and not large["accepted"].any()
    many = EdgeCloudVectorEnv(COUNT, SOURCE)
    many.reset(seed=0)  # a run of the family has more requests than there is room for at first
    stride = many._fleet._world.requests.strides[0]
    assert stride > world.requests.strides[0] and stride % 4096 and stride % many._fleet._world.requests.itemsize == 0
    assert _ODD % 64 == 0
