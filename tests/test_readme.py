"""What the README shows works as written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(\S+ \d+\.\d ms a token\n){3}", done.stdout)


def test_named_files_exist() -> None:
    named = set(re.findall(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|md|yaml|csv))`", README))
    assert len(named) > 10
    for name in named:
        assert list(ROOT.glob(name)) or list(ROOT.glob(f"*/{name}")), name


def test_named_modules_answer() -> None:
    for module in set(re.findall(r"python -m ([\w.]+)", README)):
        done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, check=False)
        assert module == "venv" or done.returncode == 0, module
