"""How long one thing takes, in ms: formulas as scalar functions of plain numbers, so that numba can compile them.

The cost of one target iteration is the five-part form fitted to public kernel measurements; its parameters and
their sources stand in `configs/hardware.yaml`.
"""

from __future__ import annotations


def iteration_ms(
    tokens: int,
    sequences: int,
    context_tokens: int,
    fixed_ms: float,
    token_ms: float,
    weights_ms: float,
    compute_ms: float,
    attention_fixed_ms: float,
    attention_sequence_ms: float,
    attention_context_ms: float,
) -> float:
    """Return the ms of one forward pass: `o + a n + max(M, r n) + c + e B + s C`.

    Args:
        tokens: n, all tokens in the pass (windows, cloud decoding and prefill chunks).
        sequences: B, sequences that attend to a context (prefill chunks are priced by `prefill_attention_ms`).
        context_tokens: C, the sum of the contexts of those sequences, in tokens.
        fixed_ms, token_ms: o and a, ms and ms a token.
        weights_ms: M, ms to stream the weights once: tokens are nearly free while `compute_ms * n` is below it.
        compute_ms: r, ms a token once the pass is bound by arithmetic.
        attention_fixed_ms, attention_sequence_ms, attention_context_ms: c, e and s; ms, ms a sequence, ms a token.
    """
    linear = fixed_ms + token_ms * tokens + max(weights_ms, compute_ms * tokens)
    if sequences == 0:
        return linear
    return linear + attention_fixed_ms + attention_sequence_ms * sequences + attention_context_ms * context_tokens


def added_tokens_ms(tokens: int, added: int, token_ms: float, weights_ms: float, compute_ms: float) -> float:
    """Return the extra ms that the last `added` of `tokens` tokens bring to a pass of otherwise equal shape."""
    with_them = max(weights_ms, compute_ms * tokens)
    without = max(weights_ms, compute_ms * (tokens - added))
    return token_ms * added + with_them - without


def prefill_attention_ms(tokens: int, context_tokens: int, token_ms: float, pair_ms: float) -> float:
    """Return the attention ms of a prefill chunk of `tokens` tokens after `context_tokens` already in the cache.

    `token_ms` is ms a token; `pair_ms` is ms a token squared (a chunk of q tokens on a context of c reads
    q^2 + 2qc pairs, the causal half counted once). The kernel's fixed cost is paid once an iteration, by the caller.
    """
    return token_ms * tokens + pair_ms * (tokens * tokens + 2.0 * tokens * context_tokens)


def transmission_ms(message_bytes: float, bandwidth_mbps: float) -> float:
    """Return the ms that `message_bytes` occupy a link of `bandwidth_mbps` (10^6 bits a second)."""
    return message_bytes * 8.0 / (bandwidth_mbps * 1000.0)


def one_way_ms(share: float, rtt_ms: float, rtt_factor: float, jitter_ms: float) -> float:
    """Return one way's `share` of a round trip: `rtt_ms` as its regime stretches it, and the jitter of the moment."""
    return share * (rtt_ms * rtt_factor + jitter_ms)


def externality_ms(added_ms: float, others: int) -> float:
    """Return the delay that a window puts on everybody else: its extra iteration ms times those who wait for it."""
    return added_ms * others
