"""Text of tokens that come one after another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from dsd_gym.config import ConfigError
from runtime.edge.text import Detokeniser, backend

SAMPLE = "the cat sat on the mat, été 你好 😀😀 "


def byte_level() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are bytes, some words, and special ones."""
    coder = Tokenizer(models.BPE())
    coder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    coder.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    coder.train_from_iterator(
        [SAMPLE] * 9, trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=coder, eos_token="<end>")


def byte_fallback() -> PreTrainedTokenizerFast:
    """Return a tokenizer like Llama 2's: a space begins a word, and what is no word is bytes."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁the", "▁cat", "s", "▁"]
    coder = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [], unk_token="<unk>"))
    strip = decoders.Strip(" ", 1, 0)
    coder.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    return PreTrainedTokenizerFast(tokenizer_object=coder)


BYTES, FALLBACK = byte_level(), byte_fallback()
VOCABULARY = len(BYTES)
token_lists = st.lists(st.integers(0, VOCABULARY - 1) | st.sampled_from(BYTES.encode(SAMPLE)), max_size=30)


def in_rounds(text: Detokeniser, tokens: list[int], sizes: list[int]) -> str:
    """Return all text of tokens that come in rounds of these sizes, and then of one."""
    out = ""
    while tokens:
        size = sizes.pop() if sizes else 1
        out += text.push(tokens[:size])
        tokens = tokens[size:]
    return out + text.flush()


def cut(text: str, stops: list[str]) -> str:
    """Return the text before the stop string that is complete first, found letter by letter."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return text


@given(token_lists, st.lists(st.integers(1, 5)))
def test_text_in_parts_is_the_text_at_once(tokens: list[int], sizes: list[int]) -> None:
    assert in_rounds(Detokeniser(BYTES), tokens, sizes) == BYTES.decode(tokens, skip_special_tokens=True)


@given(token_lists, st.lists(st.integers(1, 5)), st.data())
def test_ends_before_the_stop_string_that_is_complete_first(
    tokens: list[int], sizes: list[int], data: st.DataObject
) -> None:
    whole = BYTES.decode(tokens, skip_special_tokens=True)
    places = st.tuples(st.integers(0, max(0, len(whole) - 1)), st.integers(1, 6))
    drawn = data.draw(
        st.lists(places.map(lambda place: whole[place[0] : sum(place)]) | st.text(max_size=3), max_size=4)
    )
    stops = [stop for stop in drawn if stop]
    text = Detokeniser(BYTES, stops)
    assert in_rounds(text, tokens, sizes) == cut(whole, stops)
    assert text.stopped == any(stop in whole for stop in stops)


@given(st.lists(st.sampled_from(FALLBACK.convert_tokens_to_ids(["▁the", "▁cat", "s", "▁", "<0x41>"])), max_size=20))
def test_keeps_the_spaces_that_begin_words(tokens: list[int]) -> None:
    assert in_rounds(Detokeniser(FALLBACK), tokens, []) == FALLBACK.decode(tokens)


@given(st.lists(st.integers(1, 260), max_size=20))
def test_bytes_that_turn_out_invalid_do_not_stop_the_text(tokens: list[int]) -> None:
    text = Detokeniser(FALLBACK)
    assert len(in_rounds(text, tokens, [])) <= 5 * len(tokens)
    assert text.count == len(tokens)


def test_holds_back_what_may_still_change() -> None:
    smile = BYTES.encode("😀", add_special_tokens=False)
    parts = [BYTES.convert_tokens_to_ids(c) for token in smile for c in BYTES.convert_ids_to_tokens(token)]
    assert len(parts) == 4
    text = Detokeniser(BYTES, ["cat sat", "at!"])
    assert [text.push([part]) for part in parts] == ["", "", "", "😀"]
    said = [text.push(BYTES.encode(word, add_special_tokens=False)) for word in ("a ca", "t s", "o", "!")]
    assert said == ["a ", "", "cat so", "!"]
    assert text.push(BYTES.encode("c", add_special_tokens=False)) + text.flush() == "c"


def test_counts_the_tokens_up_to_the_stop_string_however_they_came() -> None:
    tokens = BYTES.encode(SAMPLE, add_special_tokens=False)
    counts = set()
    for size in range(1, len(tokens) + 1):
        text = Detokeniser(BYTES, ["mat"])
        assert in_rounds(text, tokens, [size] * len(tokens)) == "the cat sat on the "
        counts.add(text.count)
    (count,) = counts
    assert BYTES.decode(tokens[:count]).find("mat") >= 0 > BYTES.decode(tokens[: count - 1]).find("mat")


def test_special_and_unknown_tokens_leave_no_text() -> None:
    word = BYTES.encode("cat", add_special_tokens=False)
    assert in_rounds(Detokeniser(BYTES), [BYTES.eos_token_id, *word, 5 * VOCABULARY, BYTES.eos_token_id], []) == "cat"


def test_needs_a_tokenizer_of_the_library() -> None:
    with pytest.raises(ConfigError, match="tokenizers"):
        backend(PreTrainedTokenizerBase())


def test_text_goes_on_where_its_prompt_ends() -> None:
    """Llama 2's decoder takes the space of the first word of all for none."""
    the, cat = FALLBACK.convert_tokens_to_ids(["▁the", "▁cat"])
    assert in_rounds(Detokeniser(FALLBACK), [cat, the], []) == "cat the"
    assert in_rounds(Detokeniser(FALLBACK, prompt=[the]), [cat, the], []) == " cat the"
    cut_short = FALLBACK.convert_tokens_to_ids(["▁the", "<0xC3>"])
    assert in_rounds(Detokeniser(FALLBACK, prompt=cut_short), [cat], []) == "cat"  # nothing to go on from
    end = BYTES.convert_tokens_to_ids(["<end>"])
    assert in_rounds(Detokeniser(BYTES, prompt=end), BYTES.encode(SAMPLE), []) == SAMPLE


@given(token_lists, token_lists)
def test_a_prompt_changes_nothing_where_a_space_is_a_space(prompt: list[int], tokens: list[int]) -> None:
    whole = BYTES.decode(prompt)
    if not whole.endswith("\ufffd") and not BYTES.decode(tokens).startswith("\ufffd"):
        assert in_rounds(Detokeniser(BYTES, prompt=prompt), list(tokens), []) == in_rounds(
            Detokeniser(BYTES), list(tokens), []
        )
