"""The model with its caches: packed passes equal plain ones, and a rollback leaves no trace."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, MambaConfig, MambaForCausalLM, Phi3Config, Phi3ForCausalLM

from dsd_gym.config import ConfigError
from runtime.kv_cache import Sequence
from runtime.model import LanguageModel
from tests.tiny_models import STYLES, random_model

torch.set_num_threads(1)
EXACT = 1e-4
"""float32 logits, whose spread is above 1, agree to this; another order of additions is all that differs."""


def tokens(count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 64, (count,), generator=generator).tolist()


def plain_logits(model: Any, text: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([text])).logits[0]
    return logits


@pytest.fixture(params=STYLES)
def pair(request: pytest.FixtureRequest) -> tuple[Any, LanguageModel]:
    """Return a plain model and the same one served by the runtime."""
    model = random_model(request.param)
    return model, LanguageModel(copy.deepcopy(model), request.param)


def test_sequences_of_different_lengths_share_a_pass_without_touching_each_other(
    pair: tuple[Any, LanguageModel],
) -> None:
    plain, model = pair
    texts = [tokens(count, seed=count) for count in (3, 21, 40)]
    sequences = [model.new_sequence() for _ in texts]
    model.forward([(s, text[:-2]) for s, text in zip(sequences, texts, strict=True)], [0, 0, 0])
    found = model.forward([(s, text[-2:]) for s, text in zip(sequences, texts, strict=True)], [2, 1, 2])
    wanted = [plain_logits(plain, text)[-kept:] for text, kept in zip(texts, (2, 1, 2), strict=True)]
    assert torch.cat(wanted).std() > 1.0
    assert (found - torch.cat(wanted)).abs().max() < EXACT


def test_any_split_into_chunks_gives_the_same_logits(pair: tuple[Any, LanguageModel]) -> None:
    plain, model = pair
    text = tokens(30)
    for chunk in (1, 4, 7, 30):
        sequence = model.new_sequence()
        rows = [
            model.forward([(sequence, text[start : start + chunk])], [len(text[start : start + chunk])])
            for start in range(0, len(text), chunk)
        ]
        assert (torch.cat(rows) - plain_logits(plain, text)).abs().max() < EXACT


def test_a_rolled_back_window_leaves_no_trace(pair: tuple[Any, LanguageModel]) -> None:
    plain, model = pair
    text = tokens(20)
    sequence = model.new_sequence()
    model.forward([(sequence, text[:12] + tokens(9, seed=5))], [0])
    sequence.rollback(12)
    found = model.forward([(sequence, text[12:])], [8])
    assert (found - plain_logits(plain, text)[12:]).abs().max() < EXACT


def test_a_cache_grows_over_its_first_room_and_keeps_what_it_holds() -> None:
    plain = random_model()
    model = LanguageModel(copy.deepcopy(plain), "llama")
    text, sequence = tokens(400), model.new_sequence()
    for start in range(0, 400, 100):
        found = model.forward([(sequence, text[start : start + 100])], [1])
    assert (found - plain_logits(plain, text)[-1:]).abs().max() < EXACT
    assert 400 * model.cache_bytes_per_token <= sequence.cache_bytes <= 800 * model.cache_bytes_per_token


def test_a_cache_takes_no_memory_beyond_what_it_is_made_for() -> None:
    model = LanguageModel(random_model(), "llama")
    sequence = model.new_sequence(50)
    model.forward([(sequence, tokens(40))], [0])
    assert sequence.cache_bytes == 50 * model.cache_bytes_per_token


def test_rolling_back_to_more_than_there_is_is_refused() -> None:
    sequence = Sequence(1, 1, 1, 8)
    with pytest.raises(ValueError, match="cannot roll back to 1 tokens: the cache holds 0"):
        sequence.rollback(1)


@pytest.mark.parametrize(
    "model",
    [
        MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2)),
        Gemma2ForCausalLM(
            Gemma2Config(
                vocab_size=64,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=8,
            )
        ),
    ],
    ids=["recurrent state", "capped attention"],
)
def test_a_model_that_cannot_be_rolled_back_is_refused_in_one_line(model: Any) -> None:
    with pytest.raises(ConfigError, match=r"^odd: its cache cannot be rolled back token by token"):
        LanguageModel(model, "odd")


@pytest.mark.parametrize("style", ["llama", "gpt2"])
def test_a_saved_checkpoint_loads_from_its_folder(tmp_path: Path, style: str) -> None:
    plain = random_model(style)
    plain.config.eos_token_id = plain.generation_config.eos_token_id = [3, 5]
    plain.save_pretrained(tmp_path)
    model = LanguageModel.load(tmp_path, dtype="float32")
    assert (model.vocab_size, model.max_context_tokens) == (64, 512)
    assert model.eos_tokens == {3, 5}
    assert model.parameters == plain.num_parameters()
    found = model.forward([(model.new_sequence(), [1, 2, 3])], [3])
    assert (found - plain_logits(plain, [1, 2, 3])).abs().max() < EXACT


def test_half_precision_is_served_too(tmp_path: Path) -> None:
    random_model().to(torch.bfloat16).save_pretrained(tmp_path)
    model = LanguageModel.load(tmp_path)
    assert model.forward([(model.new_sequence(), [1, 2, 3])], [3]).dtype == torch.float32


def test_what_cannot_be_loaded_is_one_line_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^\S+nothing: cannot be loaded as a causal language model: [^\n]+$"):
        LanguageModel.load(tmp_path / "nothing")
    random_model().save_pretrained(tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(ConfigError, match=r"^\S+broken: cannot be loaded as a causal language model: [^\n]+$"):
        LanguageModel.load(tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"^\S+broken: cannot be loaded"):
        LanguageModel.load(tmp_path / "broken")


@pytest.mark.parametrize(
    "changed",
    [{"hidden_size": 64}, {"quantization_config": {"quant_method": "gptq", "bits": 4}}],
    ids=["another shape", "a package that is not there"],
)
def test_a_checkpoint_that_does_not_fit_is_one_line_that_names_it(tmp_path: Path, changed: dict[str, Any]) -> None:
    random_model().save_pretrained(tmp_path / "odd")
    path = tmp_path / "odd" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(ConfigError, match=r"^\S+odd: cannot be loaded as a causal language model: [^\n]+$"):
        LanguageModel.load(tmp_path / "odd")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a torch without a GPU")
@pytest.mark.parametrize("device", ["cuda", "no such thing"])
def test_a_device_that_is_not_there_is_one_line_that_names_it(tmp_path: Path, device: str) -> None:
    random_model().save_pretrained(tmp_path / "fine")
    with pytest.raises(ConfigError, match=rf"^\S+fine: device {device}: [^\n]+$"):
        LanguageModel.load(tmp_path / "fine", device=device)


def test_a_context_ends_where_frequencies_would_change() -> None:
    """Beyond, a pass of one long sequence would give the others beside it other logits."""
    factors = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0}
    limits = {"max_position_embeddings": 256, "original_max_position_embeddings": 48, "rope_parameters": factors}
    model = LanguageModel(Phi3ForCausalLM(Phi3Config(**shape, **heads, **limits)), "phi3")
    assert model.max_context_tokens == 48
    assert LanguageModel(random_model(), "llama").max_context_tokens == 512
