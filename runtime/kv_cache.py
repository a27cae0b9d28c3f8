"""A KV cache for each sequence, and attention over several of them in one pass.

The cache is ours, not `DynamicCache`: keys and values stay where they were written, and a rollback is a shorter
length. Attention is registered with `transformers` under the name `ATTENTION` and finds its caches in `pack`.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

ATTENTION = "dsd_packed"
GROWTH_TOKENS = 128
"""A sequence's cache grows by at least this many tokens, and by half, until it holds the most it is made for."""


class Sequence:
    """One sequence's keys and values, and how many of them count."""

    __slots__ = ("_most_tokens", "_room", "_shape", "_store", "length")

    def __init__(self, layers: int, heads: int, width: int, most_tokens: int) -> None:
        self._shape, self._most_tokens = (layers, heads, width), most_tokens
        self._store: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._room = 0
        self.length = 0
        """Tokens in the cache."""

    def rollback(self, length: int) -> None:
        """Forget all tokens from position `length` on; ValueError if there are not as many."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot roll back to {length} tokens: the cache holds {self.length}")
        self.length = length

    @property
    def cache_bytes(self) -> int:
        """Return the bytes that are allocated."""
        return sum(keys.nbytes + values.nbytes for keys, values in self._store)

    def reserve(self, length: int, like: torch.Tensor) -> None:
        """Make room for `length` tokens of the type and on the device of `like`."""
        if length <= self._room:
            return
        layers, heads, width = self._shape
        grown = self._room + max(GROWTH_TOKENS, self._room // 2)
        self._room = max(length, min(grown, self._most_tokens))
        held, self._store = self._store, []
        for layer in range(layers):
            keys = like.new_empty((heads, self._room, width))
            values = like.new_empty((heads, self._room, width))
            if held:
                keys[:, : self.length] = held[layer][0][:, : self.length]
                values[:, : self.length] = held[layer][1][:, : self.length]
            self._store.append((keys, values))

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Put new keys and values, shape (heads, tokens, width), behind those that count; return all as views."""
        stored_keys, stored_values = self._store[layer]
        end = self.length + keys.shape[1]
        stored_keys[:, self.length : end] = keys
        stored_values[:, self.length : end] = values
        return stored_keys[:, :end], stored_values[:, :end]


class Pack:
    """The sequences of one pass, and where each one's tokens stand in the row."""

    def __init__(self, sequences: Items[Sequence], counts: Items[int]) -> None:
        self.parts: list[tuple[Sequence, int, int]] = []
        start = 0
        for sequence, count in zip(sequences, counts, strict=True):
            self.parts.append((sequence, start, start + count))
            start += count
        self._masks: dict[tuple[int, int, int | None], torch.Tensor | None] = {}

    def mask(self, held: int, count: int, sliding_window: int | None, device: torch.device) -> torch.Tensor | None:
        """Return which of all tokens each of `count` new ones behind `held` may see; None: all, or plainly causal.

        The same for every layer of a kind, so it is made once.
        """
        key = (held, count, sliding_window)
        if key not in self._masks:
            self._masks[key] = _mask(held, count, sliding_window, device)
        return self._masks[key]


def _mask(held: int, count: int, sliding_window: int | None, device: torch.device) -> torch.Tensor | None:
    context = held + count
    slides = sliding_window is not None and context > sliding_window
    if not slides and (held == 0 or count == 1):
        return None
    mask = torch.ones(count, context, dtype=torch.bool, device=device).tril(held)
    return mask.triu(held - sliding_window + 1) if sliding_window is not None and slides else mask


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    pack: Pack | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend for each sequence of the pack to its own cache; tensors are (1, heads, tokens, width)."""
    if pack is None or any(kwargs.get(extra) is not None for extra in ("softcap", "s_aux")):
        raise ValueError("only plain attention can be packed")
    layer: int = module.layer_idx  # type: ignore[assignment]
    grouped = query.shape[1] != key.shape[1]
    outputs = []
    for sequence, start, end in pack.parts:
        keys, values = sequence.write(layer, key[0, :, start:end], value[0, :, start:end])
        count = end - start
        mask = pack.mask(sequence.length, count, sliding_window, query.device)
        outputs.append(
            scaled_dot_product_attention(
                query[:, :, start:end],
                keys[None],
                values[None],
                attn_mask=mask,
                is_causal=mask is None and count > 1,
                scale=scaling,
                enable_gqa=grouped,
            )
        )
    output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attend)
