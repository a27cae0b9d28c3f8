"""Two models that may speculate together: one tokenizer, and a draft that is the smaller one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dsd_gym.config import ConfigError

if TYPE_CHECKING:
    from runtime.messages import Description
    from runtime.model import LanguageModel

TINY_PAIR = Path(__file__).parent / "pairs" / "tiny"
"""The pair that comes with the project: `target` and `draft` are its folders."""


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint; ConfigError where there is none."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(source))
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{source}: no tokenizer can be loaded: {reason}") from None
    return tokenizer


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of the vocabulary and its ids: equal for tokenizers that may speculate together."""
    entries = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    digest = hashlib.sha256("\0".join(f"{token}\1{number}" for token, number in entries).encode())
    return digest.hexdigest()[:32]


def check_pair(draft: LanguageModel, tokenizer: PreTrainedTokenizerBase, target: Description) -> None:
    """Raise ConfigError unless `draft` may guess for `target`."""
    if fingerprint(tokenizer) != target.tokenizer:
        raise ConfigError(f"{draft.name}: its vocabulary is not that of the target {target.model}; a pair shares one")
    if draft.parameters > target.parameters:
        sizes = f"{draft.parameters:,} parameters against {target.parameters:,}"
        raise ConfigError(f"{draft.name}: the draft is larger than the target {target.model} ({sizes})")
