"""How the tiny pair is made: a tokenizer, two Llamas, next-token training, and distillation of the draft.

The draft first learns from text, then from the target: the Kullback-Leibler divergence from the target's
distribution (https://arxiv.org/abs/2310.08461) raises acceptance more than text alone does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 1024
CONTEXT = 2048
END = "<|endoftext|>"
CHAT_TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
ROWS = 4  # of a batch
STAGES = ((64, 0.4), (128, 0.4), (256, 0.2))  # columns, share of the tokens: many short steps find words first
WARM_UP_SHARE = 0.05

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Shape:
    """What sets the two models apart."""

    width: int
    layers: int
    heads: int
    inner: int
    learning_rate: float


TARGET = Shape(width=256, layers=6, heads=4, inner=688, learning_rate=1.2e-3)
DRAFT = Shape(width=128, layers=2, heads=4, inner=352, learning_rate=2.5e-3)


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE of 1,024 entries; digits stand alone, so that sums can be learned."""
    bpe = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe, bos_token=END, eos_token=END, pad_token=END, model_max_length=CONTEXT
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> torch.Tensor:
    """Return all texts as one row of ids, an end-of-text token before each and after the last."""
    end = tokenizer.eos_token_id
    ids = [end]
    for encoding in tokenizer.backend_tokenizer.encode_batch(list(texts)):
        ids += [*encoding.ids, end]
    return torch.tensor(ids)


def make_model(shape: Shape, end: int) -> LlamaForCausalLM:
    """Return an untrained Llama; with the usual initial spread of 0.02 the deeper one learns far slower."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.06,
        bos_token_id=end,
        eos_token_id=end,
    )
    model = LlamaForCausalLM(config)
    assert model.generation_config is not None
    model.generation_config.pad_token_id = end  # not in the configuration: that row of the embedding would not learn
    return model


def train(
    model: LlamaForCausalLM,
    ids: torch.Tensor,
    tokens: int,
    learning_rate: float,
    progress: Progress,
    teacher: LlamaForCausalLM | None = None,
) -> None:
    """Train a model in place on rows cut from the corpus; given a teacher, to imitate it.

    Args:
        ids: the corpus, int64, shape (its tokens,).
        tokens: how many to train on, with AdamW, a warm-up and a cosine that ends at zero.
        learning_rate: at the end of the warm-up.
        progress: called after each step with the tokens done, all tokens and the loss in nats a token.
        teacher: whose distributions to learn instead of the text.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    done = 0
    for batch in _batches(ids, tokens):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * _rate(done / tokens)
        loss = _loss(model, batch, teacher)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        done += batch[:, 1:].numel()
        progress(done, tokens, loss.item())


def _loss(model: Any, batch: torch.Tensor, teacher: Any) -> torch.Tensor:
    inputs, following = batch[:, :-1], batch[:, 1:]
    logits = model(input_ids=inputs, use_cache=False).logits
    if teacher is None:
        return functional.cross_entropy(logits.flatten(0, 1), following.flatten())
    with torch.no_grad():
        wanted = teacher(input_ids=inputs, use_cache=False).logits.log_softmax(-1)
    guessed = logits.log_softmax(-1)
    return functional.kl_div(guessed.flatten(0, 1), wanted.flatten(0, 1), log_target=True, reduction="batchmean")


def _rate(share: float) -> float:
    """Return the part of the learning rate that holds when a share of the tokens is done."""
    rising = (share + 0.001) / WARM_UP_SHARE
    falling = 0.5 * (1 + math.cos(math.pi * share))
    return min(1.0, rising) * falling


def _batches(ids: torch.Tensor, tokens: int) -> Iterator[torch.Tensor]:
    """Yield batches of shape (4, columns + 1), stage after stage."""
    for columns, share in STAGES:
        steps = max(1, round(share * tokens / (ROWS * columns)))
        yield from itertools.islice(_rows(ids, columns + 1), steps)


def _rows(ids: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Yield batches of one size without end, each pass over the corpus in a new order and with other cuts."""
    while True:
        start = int(torch.randint(size, ()))
        rows = ids[start : start + (len(ids) - start) // size * size].view(-1, size)
        yield from rows[torch.randperm(len(rows))[: len(rows) // ROWS * ROWS]].view(-1, ROWS, size)
