"""Warping is that of `transformers`; what is sent is what was drawn from, in few bytes, and nothing else is read."""

import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers import TemperatureLogitsWarper as Temperature
from transformers import TopKLogitsWarper as TopK
from transformers import TopPLogitsWarper as TopP

from dsd_gym import luck
from runtime import sampling as module
from runtime.messages import Refused, Sampling
from runtime.sampling import MAX_TOKEN_BYTES, SUPPORT, SparseProbs, check, decode, draft_uniform, draw, encode, sparse
from runtime.sampling import warp as warped

torch.set_num_threads(1)


def transformers_probs(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Warp with the classes of `transformers`, in the order in which `generate` chains them."""
    scores = Temperature(sampling.temperature)(None, logits)
    if sampling.top_k:
        scores = TopK(sampling.top_k)(None, scores)
    if sampling.top_p < 1.0:
        scores = TopP(sampling.top_p)(None, scores)
    return scores.softmax(-1)


def on_the_border(logits: torch.Tensor, sampling: Sampling) -> bool:
    """Return whether some set of best tokens reaches `top_p` within float32 rounding, so that either side is right."""
    whole = warped(logits, Sampling(sampling.temperature, 1.0, sampling.top_k))
    reached = whole.sort(descending=True).values.cumsum(-1)
    return bool(((reached - sampling.top_p).abs() < 1e-5).any())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.9])
@pytest.mark.parametrize(("top_p", "top_k"), [(1.0, 0), (0.9, 0), (0.2, 0), (1.0, 5), (0.8, 20), (1.0, 10**6)])
@pytest.mark.parametrize("vocab", [7, 300, 20_000])
def test_warp_is_that_of_transformers(temperature: float, top_p: float, top_k: int, vocab: int) -> None:
    sampling = Sampling(temperature, top_p, top_k)
    logits = torch.randn(6, vocab, generator=torch.Generator().manual_seed(vocab)) * 3.0
    expected = transformers_probs(logits, sampling)
    assert torch.equal(warped(logits, sampling) > 0, expected > 0)
    torch.testing.assert_close(warped(logits, sampling).float(), expected)


@given(
    st.lists(st.integers(-4, 4), min_size=1, max_size=40),
    st.floats(0.05, 1.0),
    st.integers(0, 12),
    st.sampled_from([0.5, 1.0, 1.7]),
)
def test_ties_are_kept_as_transformers_keeps_them(values: list[int], top_p: float, top_k: int, heat: float) -> None:
    sampling, logits = Sampling(heat, top_p, top_k), torch.tensor([values], dtype=torch.float32)
    if on_the_border(logits, sampling):
        return
    found, expected = warped(logits, sampling)[0], transformers_probs(logits, sampling)[0]
    by_value = [sorted(zip(values, probs.float().tolist(), strict=True)) for probs in (found, expected)]
    np.testing.assert_allclose(by_value[0], by_value[1], atol=1e-6)  # which of equal tokens stays is the sort's affair


def test_all_tokens_tied_with_the_kth_are_kept() -> None:
    probs = warped(torch.tensor([[3.0, 1.0, 1.0, 1.0, 0.0]]), Sampling(1.0, 1.0, 2))[0]
    assert (probs > 0).tolist() == [True, True, True, True, False]


@pytest.mark.parametrize(("temperature", "top_p", "top_k"), [(0.7, 0.9, 12), (1.4, 0.6, 0), (1.0, 1.0, 3)])
def test_warp_gives_what_generate_samples_from(temperature: float, top_p: float, top_k: int) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, initializer_range=0.5, **shape)).eval()
    config = GenerationConfig(do_sample=True, temperature=temperature, top_p=top_p, top_k=top_k, max_new_tokens=20)
    config.update(return_dict_in_generate=True, output_logits=True, output_scores=True, pad_token_id=0)
    made = model.generate(torch.tensor([[1, 2, 3]]), generation_config=config)
    found = warped(torch.cat(made.logits), Sampling(temperature, top_p, top_k))
    torch.testing.assert_close(found.float(), torch.cat(made.scores).softmax(-1))


def test_a_flat_row_is_sorted_and_a_steep_one_need_not_be() -> None:
    logits = torch.randn(2, 30_000, generator=torch.Generator().manual_seed(3)) * torch.tensor([[0.1], [5.0]])
    probs = warped(logits, Sampling(1.0, 0.95))
    kept = (probs > 0).sum(-1)
    assert kept[0] > 20_000
    assert kept[1] < 1024
    assert torch.equal(probs[1:], warped(logits[1:], Sampling(1.0, 0.95)))


def test_the_draft_draws_from_what_it_sends() -> None:
    probs = warped(torch.randn(1, 500, generator=torch.Generator().manual_seed(1)) * 2.0, Sampling(1.2))[0]
    sent = decode(encode([sparse(probs)]), 1, 500)[0]
    assert len(sent.tokens) == SUPPORT
    assert sent.probs.sum() == pytest.approx(1.0)
    assert sorted(sent.tokens.tolist()) == sorted(probs.topk(SUPPORT).indices.tolist())
    numbers = luck.uniforms(5, module.DRAFT_DRAW, 0, 0, 40_000)
    counts = np.bincount([sent.draw(number) for number in numbers], minlength=500)
    assert counts.sum() == counts[sent.tokens].sum()
    assert stats.chisquare(counts[sent.tokens], 40_000 * sent.probs).pvalue > 1e-4


def test_weights_are_rounded_within_half_a_unit_and_tokens_that_round_to_nothing_are_dropped() -> None:
    probs = torch.tensor([0.7, 0.3 - 1.5e-5, 1e-5, 5e-6, 0.0], dtype=torch.float64)
    sent = sparse(probs)
    assert sent.tokens.tolist() == [0, 1, 2]
    assert sent.weights.tolist() == [65535, round(65535 * (0.3 - 1.5e-5) / 0.7), 1]
    assert sent.probability(2) == sent.probs[2] > 0.0
    assert sent.probability(3) == sent.probability(4) == 0.0
    assert sent.confidence == sent.probability(0) == sent.probs.max()


@given(st.floats(2.0**-53, 1.0 - 2.0**-53), st.lists(st.floats(0.0, 10.0), min_size=1, max_size=50))
def test_a_draw_falls_on_a_token_that_has_a_chance(number: float, weights: list[float]) -> None:
    probs = torch.tensor(weights, dtype=torch.float64)
    if float(probs.sum()) > 1e-300:
        assert weights[draw(probs, number)] > 0.0
        sent = sparse(probs)
        assert sent.probability(sent.draw(number)) > 0.0


@pytest.mark.parametrize("function", [lambda probs: draw(probs, 0.5), sparse])
def test_probabilities_that_are_not_numbers_are_an_error(function) -> None:
    with pytest.raises(ValueError, match="not finite"):
        function(warped(torch.tensor([[1.0, math.nan, 0.0]]), Sampling(1.0))[0])


@given(st.lists(st.integers(1, SUPPORT), max_size=16), st.integers(0, 2**31))
def test_windows_survive_the_wire_in_few_bytes(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    window = [sparse(torch.rand(200, generator=generator, dtype=torch.float64), size) for size in sizes]
    data = encode(window)
    assert len(data) <= len(window) * MAX_TOKEN_BYTES
    assert len(data) == sum(1 + 6 * len(probs.tokens) for probs in window)
    for sent, received in zip(window, decode(data, len(window), 200), strict=True):
        assert sent.tokens.tolist() == received.tokens.tolist()
        assert sent.weights.tolist() == received.weights.tolist()


def test_the_layout_is_little_endian() -> None:
    probs = SparseProbs(np.array([0x01020304, 7], np.uint32), np.array([0x0506, 1], np.uint16))
    assert encode([probs]) == bytes([2, 4, 3, 2, 1, 7, 0, 0, 0, 6, 5, 1, 0])


def sent(*tokens: int, weights: tuple[int, ...] | None = None) -> bytes:
    """Return one distribution's bytes, well-formed or not."""
    chosen = weights or tuple(range(len(tokens), 0, -1))
    return struct.pack(f"<B{len(tokens)}I{len(tokens)}H", len(tokens), *tokens, *chosen)


@pytest.mark.parametrize(
    ("data", "window", "complaint"),
    [
        (b"", 1, "distribution 1 of 1 is cut short: 0 bytes"),
        (sent(1, 2), 2, "distribution 2 of 2 is cut short: 13 bytes"),
        (sent(1, 2)[:-1], 1, "distribution 1 of 1 is cut short: 12 bytes"),
        (sent(1, 2) + b"\x00", 1, "1 bytes are left after the distributions of 1 tokens"),
        (sent(1, 2), 0, "13 bytes are left after the distributions of 0 tokens"),
        (sent(1) + sent(), 2, "distribution 2 of 2 has 0 tokens: must be 1 to 32"),
        (sent(*range(33)), 1, "has 33 tokens: must be 1 to 32"),
        (sent(1, 100), 1, "has token 100: the vocabulary has 100"),
        (sent(1, 5, 1), 1, "has a token twice"),
        (sent(1, 2, weights=(9, 0)), 1, "has a weight of 0"),
        (sent(1, 2, weights=(8, 9)), 1, "not in descending order"),
    ],
)
def test_malformed_windows_are_refused_with_one_clear_line(data: bytes, window: int, complaint: str) -> None:
    with pytest.raises(Refused, match=complaint) as caught:
        decode(data, window, 100)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=300), st.integers(0, 4))
def test_any_bytes_are_read_in_full_or_refused(data: bytes, window: int) -> None:
    try:
        decoded = decode(data, window, 2**32)
    except Refused:
        return
    assert encode(decoded) == data
    assert all(probs.probs.sum() == pytest.approx(1.0) for probs in decoded)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": 1e-5},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"top_k": -1},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_sampling_that_cannot_be_done_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Refused, match=f"{next(iter(wrong))} .*: must"):
        check(Sampling(**wrong))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.001), Sampling(5.0, 1e-9, 1, 2**63 - 1)])
def test_sampling_that_can_be_done_is_done(sampling: Sampling) -> None:
    check(sampling)
    if not sampling.greedy:
        probs = warped(torch.tensor([[1000.0, -1000.0, 999.0]]), sampling)[0]
        assert probs.sum() == pytest.approx(1.0)
        assert probs.argmax() == 0


def test_kinds_of_luck_are_all_different() -> None:
    theirs = [value for name, value in vars(luck).items() if name[0].isupper() and isinstance(value, int)]
    ours = [module.DRAFT_DRAW, module.ACCEPT_TEST, module.TARGET_DRAW]
    assert len(theirs) >= 11
    assert len({*theirs, *ours}) == len(theirs) + 3


def test_each_round_draws_its_drafts_with_luck_of_its_own() -> None:
    numbers = [draft_uniform(Sampling(1.0, seed=9), committed, ahead) for committed in range(50) for ahead in range(17)]
    assert len(set(numbers)) == len(numbers)
    assert numbers[0] == draft_uniform(Sampling(0.5, seed=9), 0, 0)
    assert numbers[0] != draft_uniform(Sampling(1.0, seed=10), 0, 0)
