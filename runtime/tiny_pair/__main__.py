"""Make a small draft and a small target that really speculate, without a model hub: minutes on one CPU core.

python -m runtime.tiny_pair --out DIR                      half a million tokens
python -m runtime.tiny_pair --out DIR --tokens 1_000_000   better text
DIR/target and DIR/draft then load with AutoModelForCausalLM.from_pretrained; DIR/README.md says how good they are.

The text is CPython's standard library, as the running interpreter has it (Python Software Foundation License
Version 2, https://docs.python.org/3/license.html), and generated JSON, arithmetic and logs (`text.py`).
"""

from __future__ import annotations

import argparse
import platform
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsd_gym.config import ConfigError
from dsd_gym.files import Parser, exits_cleanly
from runtime.tiny_pair.text import corpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENS = 500_000
FEWEST = 2048
README = """# A tiny pair: {target_millions:.1f} M and {draft_millions:.2f} M parameters

Two Llamas that share one byte-level BPE tokenizer of {vocabulary:,} entries: `target` and `draft`, which was distilled
from it. They imitate Python source, docstrings, JSON, sums and log lines without sense; they are here so that
speculation can be run, tested and timed on real models without a download. They learned on rows of up to {columns}
tokens: up to there the figures below hold, and far beyond it both lose, the draft more.

    {command}

Python {python}, seed {seed}; {tokens:,} tokens for the target, as many for the draft, and as many again to distil it;
{cpu_s:.0f} CPU seconds. Folders as `save_pretrained` writes them, weights in fp16, {megabytes:.1f} MB in all.

Over {measured:,} held-out tokens of each kind (losses in nats a token; accepted at temperature 1 is one minus the total
variation between the two distributions, greedy is how often the likeliest tokens agree):

{table}

## Licence

The weights and the tokenizer are under this project's MIT licence. They were trained on the standard library of CPython
(source, docstrings and help topics), copyright of the Python Software Foundation, under the Python Software Foundation
License Version 2 (https://docs.python.org/3/license.html), and on JSON, arithmetic and logs that the project generates.
"""


@exits_cleanly
def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save and measure a pair."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    if options.tokens < FEWEST:
        raise ConfigError(f"--tokens {options.tokens}: at least {FEWEST:,}")
    command = f"python -m runtime.tiny_pair {shlex.join(arguments)}"
    try:
        with _whole_or_not(options.out) as folder:
            print(make_pair(folder, options.seed, options.tokens, command))
    except OSError as error:
        raise ConfigError(f"{options.out}: cannot be written: {error.strerror}") from None
    print(f"{options.out}: target, draft, README.md")


@contextmanager
def _whole_or_not(out: Path) -> Iterator[Path]:
    """Lend a temporary folder beside `out` that takes its name at the end, or goes."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out}: exists and is not an empty folder; give --out another name")
    final = out.resolve()
    work = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
    try:
        work.mkdir(parents=True)
        yield work
        work.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def make_pair(folder: Path, seed: int, tokens: int, command: str) -> str:
    """Train a pair, save it in an existing folder with a README, and return the table of its measures."""
    import torch
    from transformers.utils import logging

    from runtime.tiny_pair.training import DRAFT, TARGET, encode, make_model, make_tokenizer, train

    torch.set_num_threads(1)  # matrices this small take longer on two
    torch.manual_seed(seed)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    texts = corpus(seed, share=min(1.0, max(0.1, tokens / TOKENS)))
    tokenizer = make_tokenizer(texts)
    ids = encode(tokenizer, texts)
    target, draft = (make_model(shape, tokenizer.eos_token_id) for shape in (TARGET, DRAFT))
    train(target, ids, tokens, TARGET.learning_rate, _progress("target"))
    train(draft, ids, tokens, DRAFT.learning_rate, _progress("draft"))
    train(draft, ids, tokens, DRAFT.learning_rate, _progress("distilling"), teacher=target)
    _save(target, tokenizer, folder / "target")
    _save(draft, tokenizer, folder / "draft")
    return _describe(folder, seed, tokens, command)


def _save(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _describe(folder: Path, seed: int, tokens: int, command: str) -> str:
    """Measure the pair as it was saved, write its README and return the table."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from runtime.tiny_pair.measures import MEASURED, measure, table
    from runtime.tiny_pair.training import STAGES

    names = ("target", "draft")
    target, draft = (AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32) for name in names)
    measures = table(measure(target, draft, AutoTokenizer.from_pretrained(folder / "target"), seed))
    told = README.format(
        target_millions=target.num_parameters() / 1e6,
        draft_millions=draft.num_parameters() / 1e6,
        vocabulary=target.config.vocab_size,
        command=command,
        python=platform.python_version(),
        seed=seed,
        tokens=tokens,
        columns=STAGES[-1][0],
        cpu_s=time.process_time(),
        megabytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6,
        measured=MEASURED,
        table=measures,
    )
    (folder / "README.md").write_text(told, encoding="utf-8")
    return measures


def _progress(task: str) -> Callable[[int, int, float], None]:
    """Return what tells of every step on one line of stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        return lambda done, total, loss: None

    def tell(done: int, total: int, loss: float) -> None:
        end = "\n" if done == total else ""
        print(f"\r{task}: step {done} of {total}, {loss:.2f} nats a token ", end=end, file=sys.stderr, flush=True)

    return tell


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m runtime.tiny_pair",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--seed", type=int, default=0, help="of the text, the models and the batches (default: 0)")
    told = f"to train on, each of three times (default: {TOKENS:,})"
    parser.add_argument("--tokens", type=int, default=TOKENS, metavar="N", help=told)
    return parser


if __name__ == "__main__":
    main()
