"""What a pass costs in ms against its tokens, timed once when a target starts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np

from dsd_gym.config import ConfigError
from runtime.model import LanguageModel

MARGINAL_TOKENS = 16
"""Over so many tokens the slope of the curve is taken: the longest window."""
PART_TOKENS = 64
"""Most tokens of one sequence in a timed pass: attention stays short, as in a pass of windows."""
SLOW_MS = 500.0
"""After a pass that takes longer, no larger one is timed."""


class CostCurve:
    """ms of a pass for each number of tokens: never falling, straight between timed points."""

    def __init__(self, tokens: Sequence[int], ms: Sequence[float]) -> None:
        """Take at least one timed point, the first of one token; tokens rise."""
        table = np.interp(np.arange(1, tokens[-1] + 1), tokens, _isotonic(ms)).tolist()
        last_step = table[-1] - table[-2] if len(table) > 1 else 0.0
        self._ms: list[float] = [table[0], *table, table[-1] + last_step]
        self.one_token_ms = self._ms[1]

    @classmethod
    def timed(cls, model: LanguageModel, max_batch_tokens: int) -> CostCurve:
        """Time passes of 1, 2, 4, ... tokens; this also warms the model up. ConfigError where one of them fails."""
        _pass_ms(model, 1)  # the first pass allocates and is no measure
        tokens, ms = [1], [_least_pass_ms(model, 1)]
        while tokens[-1] < max_batch_tokens and ms[-1] < SLOW_MS:
            tokens.append(min(2 * tokens[-1], max_batch_tokens))
            ms.append(_least_pass_ms(model, tokens[-1]))
        if tokens[-1] < max_batch_tokens:  # the rest in proportion
            ms.append(ms[-1] * max_batch_tokens / tokens[-1])
            tokens.append(max_batch_tokens)
        return cls(tokens, ms)

    def at(self, tokens: int) -> float:
        """Return the ms of a pass of at most one token more than the last timed one."""
        return self._ms[tokens]

    def marginal(self, tokens: int) -> float:
        """Return the ms that one more token would add to a pass: the mean of the next few; single steps are noise."""
        end = min(tokens + MARGINAL_TOKENS, len(self._ms) - 1)
        return (self._ms[end] - self._ms[tokens]) / (end - tokens)

    def added(self, tokens: int, own: int) -> float:
        """Return the ms that `own` of a pass's tokens bring to it; its floor is nobody's, as in the simulator."""
        return self._ms[tokens] - self._ms[tokens - own]


def _isotonic(ms: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the closest never-falling values: neighbours in the wrong order are averaged (pool adjacent violators)."""
    pools: list[list[float]] = []
    for value in ms:
        pools.append([value])
        while len(pools) > 1 and statistics.fmean(pools[-2]) > statistics.fmean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    return np.array([mean for pool in pools for mean in [statistics.fmean(pool)] * len(pool)])


def _least_pass_ms(model: LanguageModel, tokens: int) -> float:
    """Return the least of three passes, of more while passes are short: noise only ever adds."""
    times = [_pass_ms(model, tokens) for _ in range(3)]
    while len(times) < 9 and sum(times) < 100.0:
        times.append(_pass_ms(model, tokens))
    return min(times)


def _pass_ms(model: LanguageModel, tokens: int) -> float:
    try:
        return _time(model, tokens)
    except RuntimeError as error:  # out of memory
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{model.name}: a pass of {tokens} tokens fails: {reason}; lower max_batch_tokens") from None


def _time(model: LanguageModel, tokens: int) -> float:
    part = min(PART_TOKENS, model.max_context_tokens)
    parts = [(model.new_sequence(), [0] * min(part, tokens - start)) for start in range(0, tokens, part)]
    started = time.perf_counter()
    logits = model.forward(parts, [len(new) for _, new in parts])
    logits.argmax(dim=-1).tolist()  # waits for the device, as a pass in service does
    return (time.perf_counter() - started) * 1000.0
