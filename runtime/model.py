"""A `transformers` causal language model with a KV cache for each sequence, many sequences in one pass.

One pass takes (sequence, tokens) pairs of any lengths: prefill chunks, windows to verify and single decoding steps
are the same thing. The tokens of all pairs stand in one row, so linear layers see one matrix without padding, and
attention runs for each pair on its own cache (`kv_cache.py`), where a rollback is a shorter length.

    model = LanguageModel.load("path/or/hub-id")
    sequence = model.new_sequence()
    model.forward([(sequence, prompt)], keep=[1])                       # prefill: the logits after its last token
    model.forward([(sequence, [token])], keep=[1])                      # step
    model.forward([(sequence, [token, *window])], keep=[1 + len(window)])   # verify: the logits after each token
    sequence.rollback(length)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from dsd_gym.config import ConfigError
from runtime.kv_cache import ATTENTION, Pack, Sequence

NO_ROLLBACK = "its cache cannot be rolled back token by token, as speculation needs"


class LanguageModel:
    """A causal language model that serves many sequences at once. Not thread-safe: one thread runs its passes."""

    def __init__(self, model: Any, name: str) -> None:
        self.name = name
        self.min_pass_ms = 0.0
        """A pass is stretched to this: a small model in the place of a large one."""
        self._model = model.eval()
        self._like: torch.Tensor = model.get_input_embeddings().weight
        config = model.config.get_text_config()
        self.vocab_size: int = self._like.shape[0]
        self.max_context_tokens = _context_tokens(config)
        self.parameters: int = model.num_parameters()
        ends = model.generation_config.eos_token_id
        self.eos_tokens = frozenset([ends] if isinstance(ends, int) else ends or [])
        self._shape = layers, heads, width = _cache_shape(config, name)
        self.cache_bytes_per_token: int = 2 * layers * heads * width * self._like.element_size()
        self._pack()

    @classmethod
    def load(cls, source: str | Path, dtype: str = "auto", device: str | None = None) -> Self:
        """Load a checkpoint from a local folder or a hub id; ConfigError where it cannot serve."""
        if not sys.stderr.isatty():
            disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(str(source), dtype=dtype, output_loading_info=True)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
            raise ConfigError(f"{source}: cannot be loaded as a causal language model: {_first_line(error)}") from None
        model, info = loaded
        if info["missing_keys"]:
            raise ConfigError(f"{source}: weights are missing: {min(info['missing_keys'])} and perhaps others")
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            return cls(model.to(chosen), str(source))
        except (RuntimeError, AssertionError) as error:  # the second where torch is built without the device's kind
            raise ConfigError(f"{source}: device {chosen}: {_first_line(error)}") from None

    def free_bytes(self) -> int | None:
        """Return the memory that is left beside the weights; None on a CPU, where others want it too."""
        device = self._like.device
        return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None

    def new_sequence(self, most_tokens: int | None = None) -> Sequence:
        """Return an empty sequence, which takes memory for up to `most_tokens` (default: the longest context)."""
        return Sequence(*self._shape, most_tokens or self.max_context_tokens)

    @torch.inference_mode()
    def forward(self, parts: Items[tuple[Sequence, Items[int]]], keep: Items[int]) -> torch.Tensor:
        """Feed each sequence its tokens and return the logits after the last `keep[i]` tokens of part i.

        Args:
            parts: sequences with at least one token each; no sequence twice.
            keep: rows wanted of each part, 0 for a prefill chunk that is not the last.

        Returns:
            float32, shape (sum(keep), vocab), part after part, on the model's device.
        """
        end_s = time.perf_counter() + self.min_pass_ms / 1000.0
        tokens: list[int] = []
        positions: list[int] = []
        rows: list[int] = []
        for (sequence, new), kept in zip(parts, keep, strict=True):
            sequence.reserve(sequence.length + len(new), self._like)
            tokens += new
            positions += range(sequence.length, sequence.length + len(new))
            rows += range(len(tokens) - kept, len(tokens))
        logits = self._pass(tokens, positions, rows, Pack([s for s, _ in parts], [len(new) for _, new in parts]))
        for sequence, new in parts:
            sequence.length += len(new)
        if self.min_pass_ms:
            time.sleep(max(0.0, end_s - time.perf_counter()))
        return logits

    def _pass(self, tokens: list[int], positions: list[int], rows: list[int], pack: Pack) -> torch.Tensor:
        device = self._like.device
        output = self._model(
            input_ids=torch.tensor([tokens], device=device),
            position_ids=torch.tensor([positions], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(rows, dtype=torch.long, device=device),
            pack=pack,
        )
        logits: torch.Tensor = output.logits[0].float()
        return logits

    @torch.inference_mode()
    def _pack(self) -> None:
        """Switch to packed attention; ConfigError unless the model gives the same logits with it, rollback included."""
        probe = [index % self.vocab_size for index in range(3, 15)]
        ids = torch.tensor([probe], device=self._like.device)
        try:
            expected = self._model(input_ids=ids, use_cache=False).logits[0].float()
            self._model.set_attn_implementation(ATTENTION)
            sequence = self.new_sequence()
            self.forward([(sequence, probe[:5] + probe[:4])], [0])
            sequence.rollback(5)
            found = self.forward([(sequence, probe[5:])], [7])
        except (TypeError, ValueError, AttributeError, RuntimeError, IndexError):
            raise ConfigError(f"{self.name}: {NO_ROLLBACK}") from None
        tolerance = 1e-3 if self._like.dtype == torch.float32 else 0.1
        if not (found - expected[5:]).abs().max() <= tolerance * float(expected.std()):
            raise ConfigError(f"{self.name}: {NO_ROLLBACK}")


def _context_tokens(config: Any) -> int:
    """Return the longest context; of a model whose frequencies change at some length, that: a cache knows but one."""
    longest: int = getattr(config, "max_position_embeddings", 2048)
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    for part in (rope, *(value for value in rope.values() if isinstance(value, dict))):
        if part.get("rope_type") == "longrope":
            longest = min(longest, part.get("original_max_position_embeddings") or longest)
    return longest


def _cache_shape(config: Any, name: str) -> tuple[int, int, int]:
    """Return layers, key-value heads and the width of a head."""
    if getattr(config, "num_attention_heads", None) is None:
        raise ConfigError(f"{name}: {NO_ROLLBACK}")
    heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_hidden_layers, heads, width


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
