"""Configuration: what is accepted, and the one line for what is not."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from dsd_gym.config import (
    ConfigError,
    apply_overrides,
    build,
    config_hash,
    did_you_mean,
    dump_yaml,
    parse_assignments,
    read_yaml,
    to_dict,
)
from dsd_gym.files import exits_cleanly, write_atomically


@dataclass(frozen=True)
class Link:
    rtt_ms: Annotated[float, Field(gt=0)] = 20.0
    bandwidth_mbps: float | None = None


@dataclass(frozen=True)
class Fixed:
    tokens: int
    kind: Literal["fixed"] = "fixed"


@dataclass(frozen=True)
class Spread:
    mean: float
    deviation: float = 1.0
    kind: Literal["spread"] = "spread"


@dataclass(frozen=True)
class Edge:
    name: str
    count: Annotated[int, Field(ge=1)] = 1


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    verbose: bool = False
    order: Literal["fifo", "shortest"] = "fifo"
    links: Link = Link()
    edges: tuple[Edge, ...] = (Edge("a", 2), Edge("b", 3))
    length: Annotated[Fixed | Spread, Field(discriminator="kind")] = Fixed(5)
    prompt: Fixed | Spread = Fixed(7)
    workers: int | Literal["auto"] = "auto"
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


def line(data: dict[str, Any]) -> str:
    """Return the message for faulty data."""
    with pytest.raises(ConfigError) as caught:
        build(Settings, data, source="held_out/x.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("held_out/x.yaml: ")


def yaml_of(tmp_path: Path, text: str) -> dict[str, Any]:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    return read_yaml(path)


@pytest.fixture(scope="module")
def yaml_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yaml") / "x.yaml"


def test_empty_data_gives_the_defaults() -> None:
    assert build(Settings, {}, source="x") == Settings()


def test_nested_data_becomes_dataclasses_and_tuples() -> None:
    data = {
        "links": {"rtt_ms": 5},
        "edges": [{"name": "c"}],
        "length": {"kind": "spread", "mean": 3},
        "prompt": {"mean": 4},
        "workers": 3,
        "weights": {"chat": 1},
    }
    built = build(Settings, data, source="x")
    assert built.links == Link(5.0) and isinstance(built.links.rtt_ms, float)
    assert built.edges == (Edge("c"),)
    assert (built.length, built.prompt, built.workers) == (Spread(3.0), Spread(4.0), 3)
    assert built.weights == {"chat": 1.0}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"links": {"rtt": 5}}, "links.rtt: unknown key; did you mean rtt_ms?"),
        ({"links": {"zzz": 5}}, "links.zzz: unknown key; known keys: rtt_ms, bandwidth_mbps"),
        ({"edges": [{"name": "a", "cuont": 2}]}, "edges.0.cuont: unknown key; did you mean count?"),
        (
            {"length": {"kind": "spread", "men": 1}},
            "length.men: unknown key; did you mean mean? (and 1 more)",
        ),
        ({"prompt": {"mean": 1, "deviaton": 1}}, "prompt.deviaton: unknown key; did you mean deviation?"),
        ({"links": {"rtt_ms": "abc"}}, "links.rtt_ms: expected a number, got 'abc'"),
        ({"links": {"rtt_ms": True}}, "links.rtt_ms: expected a number, got true"),
        ({"links": {"rtt_ms": None}}, "links.rtt_ms: expected a number, got null"),
        ({"links": {"bandwidth_mbps": "fast"}}, "links.bandwidth_mbps: expected a number, got 'fast'"),
        ({"links": 3}, "links: expected a mapping, got 3"),
        ({"edges": {"name": "a"}}, "edges: expected a list, got a mapping"),
        ({"seed": "3"}, "seed: expected a whole number, got '3'"),
        ({"seed": True}, "seed: expected a whole number, got true"),
        ({"seed": 1.5}, "seed: expected a whole number, got 1.5"),
        ({"verbose": 1}, "verbose: expected true or false, got 1"),
        ({"edges": [{"name": 3}]}, "edges.0.name: expected text, got 3"),
        ({"order": "lifo"}, "order: expected 'fifo' or 'shortest', got 'lifo'"),
        ({"workers": "all"}, "workers: expected a whole number or 'auto', got 'all'"),
        ({"links": {"rtt_ms": -3}}, "links.rtt_ms: must be greater than 0, got -3"),
        ({"links": {"rtt_ms": math.nan}}, "links.rtt_ms: must be finite, got nan"),
        ({"links": {"bandwidth_mbps": math.inf}}, "links.bandwidth_mbps: must be finite, got inf"),
        ({"edges": [{"name": "a"}, {"count": 2}]}, "edges.1.name: missing"),
        ({"edges": [{"nmae": "a"}]}, "edges.0.nmae: unknown key; did you mean name? (and 1 more)"),
        ({"length": {"mean": 3}}, "length: missing 'kind'"),
        ({"length": {"kind": "wide"}}, "length: unknown 'kind' 'wide'; known: 'fixed', 'spread'"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"seed": "a", "verbose": "b", "order": "c"}, "seed: expected a whole number, got 'a' (and 2 more)"),
    ],
)
def test_error_says_where_and_what(data: dict[str, Any], message: str) -> None:
    assert line(data) == message


def test_error_of_a_nested_post_init_has_its_key_path() -> None:
    @dataclass(frozen=True)
    class Outer:
        inner: Settings = Settings()

    with pytest.raises(ConfigError, match=r"^x: inner: seed must not be negative, got -1$"):
        build(Outer, {"inner": {"seed": -1}}, source="x")


def test_config_error_is_one_line() -> None:
    assert str(ConfigError("a\n  b\tc")) == "a b c"


def test_unknown_name_gets_the_nearest_or_all() -> None:
    assert did_you_mean("lan_lap", ["lan_lab", "wan"]) == "; did you mean lan_lab?"
    assert did_you_mean("xyz", ["lan_lab", "wan"]) == "; known: lan_lab, wan"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("3E4", 3e4),
        ("-.5", -0.5),
        ("2.", 2.0),
        ("1_000", 1000),
        ("-7", -7),
        ("0", 0),
        ("010", 10),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("true", True),
        ("", None),
        ("null", None),
        ("[1, {a: 2}]", [1, {"a": 2}]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    read = yaml_of(tmp_path, f"key: {text}")["key"]
    assert read == value and type(read) is type(value)


def test_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    assert yaml_of(tmp_path, "# nothing\n") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [1, 2\n", "x.yaml:3: expected ',' or ']'"),
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3: a stands twice"),
        ("[1]: 2", "x.yaml:1: a key must be text"),
        ("- 1\n", "x.yaml: expected a mapping, got a list"),
        ("a: !!python/name:os.system\n", "x.yaml:1: could not determine a constructor"),
    ],
)
def test_faulty_yaml_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        yaml_of(tmp_path, text)
    assert message in str(caught.value)


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="directory"):
        read_yaml(tmp_path)
    (tmp_path / "latin").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml(tmp_path / "latin")


def test_assignments_are_yaml_values_by_key() -> None:
    items = ["a.b=1e-3", "c=[1, 2]", "d={x: y}", "e=", "f=a=b", "a.b=2"]
    assert parse_assignments(items) == {"a.b": 2, "c": [1, 2], "d": {"x": "y"}, "e": None, "f": "a=b"}


@pytest.mark.parametrize("item", ["a", "=3", "a..b=3", ".a=3", "a b=3", "a=[1"])
def test_malformed_assignment_is_refused(item: str) -> None:
    with pytest.raises(ConfigError, match="a" if "a" in item else "=3"):
        parse_assignments([item])


def test_overrides_reach_into_mappings_and_lists_and_copy() -> None:
    data = {"seed": 1, "links": {"rtt_ms": 2}, "edges": [{"name": "a"}, {"name": "b"}]}
    changed = apply_overrides(data, {"links.bandwidth_mbps": 9, "edges.1.count": 3, "length.kind": "fixed"})
    assert changed["links"] == {"rtt_ms": 2, "bandwidth_mbps": 9}
    assert changed["edges"] == [{"name": "a"}, {"name": "b", "count": 3}]
    assert changed["length"] == {"kind": "fixed"}
    assert data == {"seed": 1, "links": {"rtt_ms": 2}, "edges": [{"name": "a"}, {"name": "b"}]}


def test_overrides_index_into_default_lists() -> None:
    defaults = to_dict(Settings())
    changed = apply_overrides({"links": {"rtt_ms": 2}}, {"edges.1.count": 9, "links.rtt_ms": 3}, defaults)
    expected = Settings(edges=(Edge("a", 2), Edge("b", 9)), links=Link(3.0))
    assert build(Settings, changed, source="x") == expected
    assert defaults == to_dict(Settings())


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("edges.2.count", "edges.2.count: no item 2 in a list of 2"),
        ("edges.x.count", "edges.x.count: no item x in a list of 2"),
        ("edges.5", "edges.5: no item 5 in a list of 2"),
        ("seed.x", "seed.x: seed is 4, not a mapping or a list"),
    ],
)
def test_override_that_leads_nowhere_names_its_key(key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides({"seed": 4}, {key: 1}, to_dict(Settings()))


settings = st.builds(
    Settings,
    seed=st.integers(0, 2**62),
    verbose=st.booleans(),
    order=st.sampled_from(["fifo", "shortest"]),
    links=st.builds(Link, st.floats(1e-9, 1e9), st.none() | st.floats(-1e300, 1e300)),
    edges=st.lists(st.builds(Edge, st.text(), st.integers(1, 9))).map(tuple),
    length=st.builds(Fixed, st.integers()) | st.builds(Spread, st.floats(0, 9)),
    workers=st.just("auto") | st.integers(),
    weights=st.dictionaries(st.text(), st.floats(0, 9), max_size=3),
)


@given(settings)
def test_plain_data_and_yaml_round_trip(obj: Settings) -> None:
    assert build(Settings, to_dict(obj), source="x") == obj


@given(obj=settings)
@hypothesis.settings(max_examples=50)
def test_written_yaml_reads_back(yaml_path: Path, obj: Settings) -> None:
    traps = ("yes", "1e3", "010", "null", "1_0", "~", "2024-01-01", "a: b", " ", "")
    obj = replace(obj, edges=(*obj.edges, *map(Edge, traps)))
    yaml_path.write_text(dump_yaml(obj), encoding="utf-8")
    assert build(Settings, read_yaml(yaml_path), source="x") == obj


def test_hash_depends_on_values_alone() -> None:
    assert config_hash(Settings(links=Link(3))) == config_hash(Settings(links=Link(3.0)))
    assert config_hash(Settings(seed=1)) != config_hash(Settings(seed=2))
    assert len(config_hash(Settings())) == 12


@pytest.mark.parametrize(
    ("body", "code", "stderr"),
    [
        ("raise ConfigError('x.yaml: seed: missing')", 2, "error: x.yaml: seed: missing\n"),
        ("raise KeyboardInterrupt", 130, "interrupted\n"),
        ("raise MemoryError('no 8 TiB')", 2, "error: not enough memory: no 8 TiB\n"),
        ("raise MemoryError", 2, "error: not enough memory: less at a time takes less\n"),
        ("raise BrokenPipeError", 141, ""),
        ("print('done')", 0, ""),
    ],
)
def test_script_ends_with_one_line_and_a_code(body: str, code: int, stderr: str) -> None:
    script = (
        "from dsd_gym.config import ConfigError\nfrom dsd_gym.files import exits_cleanly\n"
        f"@exits_cleanly\ndef main():\n    {body}\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, stderr)


def test_bugs_keep_their_traceback_and_results_pass_through() -> None:
    @exits_cleanly
    def main(value: int) -> int:
        return 10 // value

    assert main(5) == 2
    with pytest.raises(ZeroDivisionError):
        main(0)


def test_atomic_write_is_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.txt"
    write_atomically(path, "é")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_failed_atomic_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_concurrent_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    threads = [threading.Thread(target=write_atomically, args=(path, str(i) * 9999)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(path.read_text())) == 1 and len(path.read_text()) == 9999


def test_a_file_that_the_system_refuses_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    @exits_cleanly
    def main() -> None:
        write_atomically(Path("/proc/nowhere/x"), "text")

    with pytest.raises(SystemExit, match="2"):
        main()
    said = capsys.readouterr().err
    assert said.startswith("error: /proc/nowhere") and said.count("\n") == 1
