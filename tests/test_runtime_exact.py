"""Speculation with real models: greedy text is token for token that of `generate`, sampled text the target's sample.

A draft here is its target with noise on every weight, so it is right often and wrong often. The one difference allowed
is a tie: where the target's two best logits lie within `TIE` of each other, another order of float32 additions may
choose the other one. Ties are counted, and at most 1 % of the texts may have one.
"""

import copy
import itertools
from collections import Counter
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from runtime.kv_cache import Sequence
from runtime.messages import Sampling
from runtime.model import LanguageModel
from runtime.pair import TINY_PAIR, load_tokenizer
from runtime.sampling import SparseProbs, draft_uniform, sparse, warp
from runtime.tiny_pair.text import KINDS, prompts
from runtime.verify import verify
from tests.chi_square import PASSES, fit, marginal
from tests.tiny_models import random_model

torch.set_num_threads(1)

TIE = 1e-4
TIES_ALLOWED = 0.01
WINDOWS = range(17)
LENGTH = 24


class Pair(NamedTuple):
    """A plain model that generates, the same one as a target, and its draft."""

    plain: Any
    target: LanguageModel
    draft: LanguageModel


class Text:
    """One request: what is committed, and the two caches, which hold all of it but the last token."""

    def __init__(self, pair: Pair, prompt: list[int], sampling: Sampling = Sampling()) -> None:  # noqa: B008 - frozen
        self.tokens, self.prompt_tokens, self.sampling = list(prompt), len(prompt), sampling
        self.target, self.draft = pair.target.new_sequence(), pair.draft.new_sequence()
        self.window: list[int] = []
        self.probs: list[SparseProbs] = []
        self.accepted = self.drafted = 0

    @property
    def output(self) -> list[int]:
        return self.tokens[self.prompt_tokens :]

    def unread(self, sequence: Sequence) -> list[int]:
        return [*self.tokens, *self.window][sequence.length :]

    def guess(self, logits: torch.Tensor) -> None:
        """Add the draft's token to the window."""
        if self.sampling.greedy:
            self.window.append(int(logits.argmax()))
        else:
            self.probs.append(sparse(warp(logits[None], self.sampling)[0]))
            number = draft_uniform(self.sampling, len(self.output), len(self.window))
            self.window.append(self.probs[-1].draw(number))

    def take(self, logits: torch.Tensor) -> None:
        """Commit what the target says of the window."""
        accepted, token = verify(logits, self.window, self.probs or None, self.sampling, len(self.output))
        self.tokens += [*self.window[:accepted], token]
        self.accepted, self.drafted = self.accepted + accepted, self.drafted + len(self.window)
        for sequence in (self.target, self.draft):
            sequence.rollback(min(sequence.length, len(self.tokens) - 1))
        self.window, self.probs = [], []


def run_round(pair: Pair, texts: list[Text], windows: list[int]) -> None:
    """Draft each text's window, all texts in one pass a token, and verify all of them in one pass."""
    for ahead in range(max(windows)):
        drafting = [text for text, window in zip(texts, windows, strict=True) if window > ahead]
        logits = pair.draft.forward([(text.draft, text.unread(text.draft)) for text in drafting], [1] * len(drafting))
        for text, row in zip(drafting, logits, strict=True):
            text.guess(row)
    keep = [1 + len(text.window) for text in texts]
    logits = pair.target.forward([(text.target, text.unread(text.target)) for text in texts], keep)
    for text, rows in zip(texts, logits.split(keep), strict=True):
        text.take(rows)


def speculate(pair: Pair, texts: list[Text], windows: list[int], length: int) -> None:
    """Run rounds until every text has at least `length` tokens of output."""
    going = list(zip(texts, windows, strict=True))
    while going:
        run_round(pair, [text for text, _ in going], [window for _, window in going])
        going = [(text, window) for text, window in going if len(text.output) < length]


def generate(plain: Any, prompt: list[int], length: int) -> list[int]:
    """Return the greedy output of `transformers` itself; it ends early after an end token."""
    settings = GenerationConfig(do_sample=False, max_new_tokens=length, pad_token_id=0)
    settings.eos_token_id = plain.generation_config.eos_token_id
    ids = torch.tensor([prompt])
    made = plain.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    return made[0, len(prompt) :].tolist()


def is_tie(plain: Any, prompt: list[int], found: list[int], expected: list[int]) -> bool:
    """Return whether the target's two best logits are within `TIE` where two outputs part; fail if they are not."""
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(found, expected, strict=True)))
    if same == len(expected):
        return False
    with torch.inference_mode():
        best, second = plain(torch.tensor([prompt + expected[:same]])).logits[0, -1].topk(2).values.tolist()
    assert best - second < TIE, f"token {same} of prompt {prompt} differs, {best - second} above the next"
    return True


def random_pair(style: str) -> Pair:
    """Return a random target and its noisy draft."""
    plain = random_model(style)
    noisy = copy.deepcopy(plain)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in noisy.parameters():
            weights += 0.008 * torch.randn(weights.shape, generator=generator)
    return Pair(plain, LanguageModel(copy.deepcopy(plain), style), LanguageModel(noisy, f"noisy {style}"))


def random_prompts(count: int, vocab: int, seed: int = 0) -> list[list[int]]:
    """Return prompts of 1 to 30 tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 31, (count,), generator=generator).tolist()
    return [torch.randint(0, vocab, (length,), generator=generator).tolist() for length in lengths]


def compare(
    pair: Pair, prompts: list[list[int]], windows: range | tuple[int, ...], alone: bool, turns: int = 0
) -> list[Text]:
    """Speculate from each prompt with each window and compare with `generate`; the texts of a pass have all windows.

    With `turns` a prompt meets only that many of the windows, each prompt others.
    """
    expected = [generate(pair.plain, prompt, LENGTH) for prompt in prompts]
    texts: list[Text] = []
    ties = 0
    for shift in range(turns or len(windows)):
        batch = [Text(pair, prompt) for prompt in prompts]
        chosen = [windows[(index + shift) % len(windows)] for index in range(len(prompts))]
        for start in range(0, len(batch), 1 if alone else len(batch)):
            end = start + 1 if alone else len(batch)
            speculate(pair, batch[start:end], chosen[start:end], LENGTH)
        for text, prompt, wanted in zip(batch, prompts, expected, strict=True):
            ties += is_tie(pair.plain, prompt, text.output[: len(wanted)], wanted)
        texts += batch
    assert ties <= TIES_ALLOWED * len(texts)
    return texts


@pytest.mark.slow
@pytest.mark.parametrize("style", ["llama", "qwen2", "gpt2"])
def test_greedy_text_is_that_of_generate_for_every_window(style: str) -> None:
    texts = compare(random_pair(style), random_prompts(40, 64), WINDOWS, alone=False)
    acceptance = sum(text.accepted for text in texts) / sum(text.drafted for text in texts)
    assert 0.15 < acceptance < 0.85, "the draft must be right often and wrong often, or nothing was tested"


@pytest.mark.parametrize("style", ["llama", "qwen2", "gpt2"])
def test_greedy_text_is_that_of_generate_alone(style: str) -> None:
    compare(random_pair(style), random_prompts(4, 64, seed=1), (0, 1, 4, 16), alone=True)


def tiny_pair() -> tuple[Pair, list[list[int]]]:
    """Return the shipped pair and a hundred prompts."""
    plain = AutoModelForCausalLM.from_pretrained(TINY_PAIR / "target", dtype="float32").eval()
    models = [LanguageModel.load(TINY_PAIR / name, "float32", "cpu") for name in ("target", "draft")]
    texts = [prompt for kind in KINDS for prompt in prompts(kind, 20, seed=0)]
    return Pair(plain, *models), load_tokenizer(TINY_PAIR / "target")(texts).input_ids


@pytest.mark.slow
def test_greedy_text_of_the_tiny_pair_is_that_of_generate_on_100_prompts_for_every_window() -> None:
    texts = compare(*tiny_pair(), WINDOWS, alone=False)
    assert len(texts) == 100 * len(WINDOWS)


@pytest.mark.slow
def test_greedy_text_of_the_tiny_pair_is_that_of_generate_alone() -> None:
    """Each of the hundred prompts meets one window; the soak below has them all."""
    assert len(compare(*tiny_pair(), WINDOWS, alone=True, turns=1)) == 100


@pytest.mark.soak
def test_greedy_text_of_the_tiny_pair_is_that_of_generate_alone_for_every_window() -> None:
    assert len(compare(*tiny_pair(), WINDOWS, alone=True)) == 100 * len(WINDOWS)


@pytest.mark.slow
@pytest.mark.parametrize("warps", [(0.7, 1.0, 0), (1.0, 0.9, 0), (1.5, 1.0, 6)])
def test_sampled_text_has_the_distribution_of_the_target(warps: tuple[float, float, int]) -> None:
    plain = random_model("llama", vocab_size=10, seed=5, width=16)
    pair = Pair(plain, LanguageModel(copy.deepcopy(plain), "target"),
                LanguageModel(random_model("llama", vocab_size=10, seed=6, width=16), "draft"))  # fmt: skip
    prompt, runs = [3, 1, 4], 3000
    texts = [Text(pair, prompt, Sampling(*warps, seed=seed)) for seed in range(runs)]
    for shift in range(3):  # windows 0 to 3, mixed; each round commits a token at least
        run_round(pair, texts, [(seed // 4**shift + shift) % 4 for seed in range(runs)])
    outputs = [tuple(text.output[:3]) for text in texts]
    expected = exact(plain, prompt, Sampling(*warps))
    for places in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)):
        assert (
            fit(Counter(tuple(tokens[i] for i in places) for tokens in outputs), marginal(expected, *places)) > PASSES
        )


def exact(plain: Any, prompt: list[int], sampling: Sampling) -> dict[tuple[int, ...], float]:
    """Return the probability of every output of three tokens, from the plain model."""
    chances: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(3):
        with torch.inference_mode():
            logits = plain(torch.tensor([[*prompt, *tokens] for tokens in chances])).logits[:, -1]
        chances = {
            (*tokens, token): chance * probability
            for (tokens, chance), row in zip(chances.items(), warp(logits, sampling).tolist(), strict=True)
            for token, probability in enumerate(row)
        }
    return chances
