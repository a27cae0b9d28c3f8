"""One prompt on the command line: text as it comes, and how it went."""

from __future__ import annotations

import sys

from transformers import PreTrainedTokenizerBase

from runtime.edge.edge import Edge
from runtime.edge.http.prompts import plain_template
from runtime.edge.summary import Summary
from runtime.edge.text import Detokeniser, backend
from runtime.messages import Sampling


async def answer(
    edge: Edge, tokenizer: PreTrainedTokenizerBase, prompt: str, sampling: Sampling, max_tokens: int, chat: bool
) -> None:
    """Stream the completion of `prompt` to stdout and close with a summary on stderr."""
    tokens = prompt_tokens(tokenizer, prompt, chat)
    detokeniser, summary = Detokeniser(tokenizer, prompt=() if chat else tokens), Summary()
    async for progress in edge.generate(tokens, sampling, max_tokens):
        if not summary.begun:
            print(prompt, end="")
        summary.add(progress)
        print(detokeniser.push(progress.tokens), end="", flush=True)
    print(detokeniser.flush())
    print(summary.text(edge), file=sys.stderr)


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str, chat: bool) -> list[int]:
    """Return the ids of a prompt, inside the chat template where that is asked for."""
    if chat:
        messages = [{"role": "user", "content": prompt}]
        if not tokenizer.chat_template:
            return backend(tokenizer).encode(plain_template(messages)).ids
        prompt = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    tokens: list[int] = tokenizer(prompt, add_special_tokens=not chat)["input_ids"]
    return tokens
