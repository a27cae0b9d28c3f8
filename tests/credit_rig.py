"""A credit buffer filled by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from agents.credit import PRIOR_TOKENS, StreamCredit
from agents.train_config import Credit
from dsd_gym.records import Round
from dsd_gym.vector.layout import ROUND, STREAM

REFERENCE_MS = 10.0


def make_buffer(
    decisions: int, gamma: float = 0.9, gae_lambda: float = 0.8, n_envs: int = 1, **judged: Any
) -> StreamCredit:
    box = spaces.Box(0.0, 1.0, (2,), np.float32)
    credit = Credit(**{"externality_weight": 2.0, "scaled_in": "all", **judged})
    buffer = StreamCredit(
        decisions, box, spaces.Discrete(13), gamma=gamma, gae_lambda=gae_lambda, n_envs=n_envs, credit=credit
    )
    buffer.reset()
    return buffer


def decide(buffer: StreamCredit, stream: int, value: float, action: int = 4, log_prob: float = -1.0) -> None:
    """Enter one env's decision; the observation tells the stream and the value."""
    seen = np.array([[stream, value]], np.float32)
    streams = np.array([stream])
    buffer.decided(streams, seen, np.array([action]), np.array([value], np.float32), np.array([log_prob], np.float32))


def ended(stream: int, tokens: int, elapsed_ms: float, externality_ms: float = 0.0) -> Round:
    return Round(stream, 0.0, 0.0, elapsed_ms, 4, 4, 3, 0, tokens, 20.0, 0.0, 30.0, 2, externality_ms, 0.0, 0.0)


def happened(buffer: StreamCredit, rounds: Sequence[Round] = (), over: Sequence[int] = (), env: int = 0) -> None:
    told = np.zeros(len(rounds), ROUND)
    for entry, round in zip(told, rounds, strict=True):
        for name, value in round._asdict().items():
            entry[name] = value
    gone = np.zeros(len(over), STREAM)
    gone["stream"] = over
    told["deployment"] = gone["deployment"] = env
    told["team_ms"] = 3.0 * (told["end_ms"] - told["start_ms"])
    buffer.happened(told, gone, np.full(buffer.n_envs, REFERENCE_MS))


def reward(tokens: float, cost: float, all_cost: float, all_tokens: float) -> float:
    """Return n - c / rho, rho the average of all so far and of the prior."""
    return tokens - cost * (PRIOR_TOKENS + all_tokens) / (PRIOR_TOKENS + all_cost)


def interleaved(buffer: StreamCredit) -> None:
    """Streams 7 and 8 take turns; 7 ends, 8 is still drafting when its third decision is pending.

    With a prior of 200 tokens at cost 200 the rewards are
    7: 2 - 3 x 202/203 = -.985222, then 1 - 2 x 206/209 = -.971292;  8: 3 - 4 x 205/207 = -.961353, then 4 - 1 = 3;
    and with discount .9 and trace .72 a token the advantages, last to first,
    8: 3 + .6561 x 5 - 4 = 2.2805, -.961353 + .729 x 4 - 2 + .373248 x 2.2805 = .805839;
    7: -.971292 - 3 = -3.971292, -.985222 + .81 x 3 - 1 - .5184 x 3.971292 = -1.613940.
    """
    decide(buffer, 7, value=1.0)
    decide(buffer, 8, value=2.0)
    happened(buffer, [ended(7, 2, 30.0)])  # 7's first: 2 tokens, cost 3
    decide(buffer, 7, value=3.0)
    happened(buffer, [ended(8, 3, 20.0, externality_ms=10.0)])  # 8's first: 3 tokens, cost (20 + 2 x 10) / 10 = 4
    decide(buffer, 8, value=4.0)
    happened(buffer, [ended(7, 1, 20.0)], over=[7])  # 7's second and last: 1 token, cost 2
    happened(buffer, [ended(8, 4, 10.0)])  # 8's second: 4 tokens, cost 1
    decide(buffer, 8, value=5.0)
