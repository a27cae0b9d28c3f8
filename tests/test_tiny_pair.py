"""The pair that the project makes itself: what ships is sound, and the recipe runs."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.tiny_pair import text as tiny_text
from runtime.tiny_pair.text import KINDS

pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "runtime" / "pairs" / "tiny"


def make(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtime.tiny_pair", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def load(folder: Path) -> tuple[Any, Any, Any]:
    """Return target, draft and the target's tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    names = ("target", "draft")
    target, draft = (AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32) for name in names)
    return target, draft, AutoTokenizer.from_pretrained(folder / "target")


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Any, Any, Any]]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many times faster on a busy machine
    yield load(TINY)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def measures(pair: tuple[Any, Any, Any]) -> dict[str, Any]:
    from runtime.tiny_pair.measures import measure

    return measure(*pair, seed=1)


def test_shipped_pair_shares_a_tokenizer() -> None:
    files = [(TINY / name / "tokenizer.json").read_bytes() for name in ("target", "draft")]
    assert files[0] == files[1]


def test_shipped_pair_is_small(pair: tuple[Any, Any, Any]) -> None:
    target, draft, _ = pair
    assert 4e6 < target.num_parameters() < 6e6
    assert 0.2e6 < draft.num_parameters() < 0.6e6
    assert sum(file.stat().st_size for file in TINY.rglob("*") if file.is_file()) <= 12e6


def test_shipped_files_name_no_machine() -> None:
    for file in [*TINY.rglob("*.json"), *TINY.rglob("*.md"), *TINY.rglob("*.jinja")]:
        if file.name == "tokenizer.json":
            continue
        text = file.read_text(encoding="utf-8")
        assert "/home" not in text and "/root" not in text and "/tmp" not in text, file
        assert file.suffix != ".json" or not json.loads(text).get("_name_or_path"), file


def test_models_know_the_context_and_the_end(pair: tuple[Any, Any, Any]) -> None:
    target, draft, tokenizer = pair
    assert len(tokenizer) == target.config.vocab_size == draft.config.vocab_size == 1024
    for model in (target, draft):
        assert model.config.max_position_embeddings == 2048
        assert model.generation_config.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("text", ["def f(x):\n\treturn x + 7", "naïve Zürich 北京 🙂 \x00", "  ", "a\r\n\nb", "<|end"])
def test_tokenizer_gives_back_any_text(pair: tuple[Any, Any, Any], text: str) -> None:
    tokenizer = pair[2]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_chat_template_holds_the_message(pair: tuple[Any, Any, Any]) -> None:
    tokenizer = pair[2]
    chat = [{"role": "user", "content": "3 + 4 ="}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == f"{tokenizer.bos_token}3 + 4 =\n"


def test_target_predicts_held_out_text_better(measures: dict[str, Any]) -> None:
    for kind, found in measures.items():
        assert found.target_loss < found.draft_loss, kind


def test_acceptance_depends_on_the_text(measures: dict[str, Any]) -> None:
    for name in ("acceptance", "greedy"):
        values = [getattr(found, name) for found in measures.values()]
        assert 0.5 < min(values) < max(values) - 0.1 < 0.9, name


def test_greedy_agreement_while_the_target_writes(pair: tuple[Any, Any, Any]) -> None:
    """Over 32 tokens that the target writes after each of a few prompts."""
    import torch

    target, draft, tokenizer = pair
    shares = {}
    for kind in KINDS:
        agreed = []
        for prompt in tiny_text.prompts(kind, 4, seed=2):
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            written = target.generate(ids, max_new_tokens=32, do_sample=False, pad_token_id=tokenizer.eos_token_id)
            with torch.no_grad():
                guessed = draft(input_ids=written[:, :-1]).logits.argmax(-1)
            agreed.append((guessed == written[:, 1:])[:, ids.shape[1] - 1 :].float())
        shares[kind] = float(torch.cat(agreed, dim=1).mean())
    assert all(0.4 < share <= 1 for share in shares.values()), shares
    assert 0.6 < sum(shares.values()) / len(shares) < 0.97, shares


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_short_and_repeat(pair: tuple[Any, Any, Any], kind: str) -> None:
    prompts = tiny_text.prompts(kind, 50, seed=3)
    assert prompts == tiny_text.prompts(kind, 50, seed=3) != tiny_text.prompts(kind, 50, seed=4)
    assert len(set(prompts)) > 40
    assert all(20 <= len(pair[2](prompt)["input_ids"]) <= 120 for prompt in prompts)


@pytest.mark.parametrize("kind", ["code", "docs"])
def test_prompts_are_not_in_the_training_text(kind: str) -> None:
    training = "\n".join(itertools.islice(tiny_text.documents(kind, seed=0), 2000))
    prompts = tiny_text.prompts(kind, 50, seed=0)
    assert sum(prompt in training for prompt in prompts) <= 5  # a few files of the library repeat each other


def test_made_up_json_and_sums_are_right() -> None:
    for text in itertools.islice(tiny_text.documents("json", seed=5), 50):
        json.loads(text)
    for text in itertools.islice(tiny_text.documents("arithmetic", seed=5), 50):
        for line in text.splitlines():
            left, equals, right = line.split(":")[-1].partition(" = ")
            if equals and " x " not in left:
                assert eval(left) == int(right.split(",")[0]), line


def test_text_needs_no_torch() -> None:
    code = "import sys; from runtime.tiny_pair.text import prompts; prompts('docs', 3, 0)"
    subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], cwd=ROOT, check=True)


@pytest.mark.slow
def test_recipe_makes_a_pair_that_loads(tmp_path: Path) -> None:
    done = make("--out", tmp_path / "new" / "pair", "--tokens", 2048, "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert all(f"| {kind} |" in done.stdout for kind in KINDS)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pair"]
    target, draft, tokenizer = load(tmp_path / "new" / "pair")
    ids = tokenizer("1 + 1 =", return_tensors="pt")["input_ids"]
    assert all(model.generate(ids, max_new_tokens=2).shape[1] > ids.shape[1] for model in (target, draft))
    assert "--tokens 2048 --seed 3" in (tmp_path / "new" / "pair" / "README.md").read_text(encoding="utf-8")


def test_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    for out in (tmp_path, tmp_path / "mine"):
        done = make("--out", out)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {out}: ") and done.stderr.count("\n") == 1
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("arguments", [(), ("--out", "new", "--tokens", "many"), ("--out", "new", "--tokens", "5")])
def test_a_wrong_command_is_one_line(arguments: tuple[str, ...]) -> None:
    done = make(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
