"""Which two models may speculate together, and what a wrong pair is told."""

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from dsd_gym.config import ConfigError
from runtime.messages import Description
from runtime.model import LanguageModel
from runtime.pair import check_pair, fingerprint, load_tokenizer
from tests.tiny_models import random_model


def tokenizer(*words: str) -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(words)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token=words[0])))


def described(tokens: PreTrainedTokenizerFast, parameters: int) -> Description:
    return Description("big", fingerprint(tokens), parameters, 16, 512)


def test_a_fingerprint_depends_on_every_token_and_its_id() -> None:
    assert fingerprint(tokenizer("a", "b")) == fingerprint(tokenizer("a", "b"))
    assert len({fingerprint(tokenizer(*words)) for words in (("a", "b"), ("b", "a"), ("a", "c"), ("a", "b", "c"))}) == 4


def test_a_pair_shares_its_vocabulary() -> None:
    draft = LanguageModel(random_model(), "small")
    check_pair(draft, tokenizer("a", "b"), described(tokenizer("a", "b"), 10**9))
    with pytest.raises(ConfigError, match=r"^small: its vocabulary is not that of the target big"):
        check_pair(draft, tokenizer("a", "b"), described(tokenizer("b", "a"), 10**9))


def test_a_draft_is_not_larger_than_its_target() -> None:
    draft = LanguageModel(random_model(), "small")
    with pytest.raises(ConfigError, match=r"^small: the draft is larger than the target big \([\d,]+ parameters"):
        check_pair(draft, tokenizer("a"), described(tokenizer("a"), draft.parameters - 1))


def test_a_folder_without_a_tokenizer_is_one_line(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match=r"no tokenizer can be loaded: [^\n]+$"):
        load_tokenizer(str(tmp_path))
