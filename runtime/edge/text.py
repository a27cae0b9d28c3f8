"""From tokens to text while they come in, up to a stop string."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from dsd_gym.config import ConfigError

PROMPT_TAIL = 6
"""Tokens of a prompt that decoding goes on from."""
INCOMPLETE = "\ufffd"
"""What a decoder writes for bytes that are no character, or not yet."""


def backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Return the `tokenizers` object of a tokenizer; ConfigError where it has none."""
    found = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(found, Tokenizer):
        raise ConfigError(f"{tokenizer.name_or_path}: needs a tokenizer of the `tokenizers` library (tokenizer.json)")
    return found


class Detokeniser:
    """Tokens in, text out as soon as it is certain.

    Held back: bytes that do not make a character yet, and text that a stop string may begin with. The text ends
    before the stop string that is complete first (of several, the longest). Special tokens leave no text.

    All text of one request is what decoding all its tokens at once gives; where it goes on from a `prompt`, what that
    gives beyond the prompt's own text (some decoders take the first space of all for none). With a byte-fallback
    vocabulary one thing differs: a run of bytes that turns out invalid takes no valid character back, as decoding at
    once does, and as makes the `DecodeStream` of `tokenizers` raise.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str] = (), prompt: Sequence[int] = ()
    ) -> None:
        self._backend = backend(tokenizer)
        self._silent = {number for number, token in self._backend.get_added_tokens_decoder().items() if token.special}
        self._stops = stops
        self._tokens = [token for token in prompt[-PROMPT_TAIL:] if not self._is_silent(token)]
        if self._backend.decode(self._tokens).endswith(INCOMPLETE):
            self._tokens = []
        self._read = len(self._tokens)  # those whose text is out; the decoder needs them to know if a word begins here
        self._held = ""
        self.count = 0
        """Tokens taken in, the one that completed a stop string included and none after it."""
        self.stopped = False
        """Whether a stop string was met."""

    def push(self, tokens: Iterable[int]) -> str:
        """Take tokens in and return the text that has become certain."""
        text = ""
        for token in tokens:
            if self.stopped:
                break
            self.count += 1
            text += self._until_stop(self._decode(token))
        return text

    def flush(self) -> str:
        """Return what was held back, after the last token."""
        if self.stopped:
            return ""
        text = self._until_stop(self._new_text())
        if not self.stopped:
            text += self._held
        self._tokens, self._read, self._held = [], 0, ""
        return text

    def _decode(self, token: int) -> str:
        """Return the text that a token completes."""
        if self._is_silent(token):
            return ""
        self._tokens.append(token)
        new = self._new_text()
        if not new or new.endswith(INCOMPLETE):
            return ""
        del self._tokens[: self._read]
        self._read = len(self._tokens)
        return new

    def _is_silent(self, token: int) -> bool:
        return token in self._silent or self._backend.id_to_token(token) is None

    def _new_text(self) -> str:
        before = self._backend.decode(self._tokens[: self._read])
        return self._backend.decode(self._tokens)[len(before) :]

    def _until_stop(self, text: str) -> str:
        """Add text to what is held and return what no stop string can claim any more."""
        self._held += text
        start = _first_stop(self._held, self._stops)
        self.stopped = start is not None
        certain = len(self._held) - _begun(self._held, self._stops) if start is None else start
        out, self._held = self._held[:certain], self._held[certain:]
        return out


def _first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the stop string begins that is complete first."""
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return min(found)[1] if found else None


def _begun(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of the text may be the beginning of a stop string."""
    lengths = (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
    return max(lengths, default=0)
