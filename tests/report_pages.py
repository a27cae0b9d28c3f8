"""What tests of the report need: comparisons whose figures are chosen, and a page read back as a tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

from dsd_gym.comparison.evaluation import Evaluation, Row

VOID = {"meta", "link", "br", "img", "hr", "input"}
NASTY = "<script>alert(\"1\")</script> & 'café' $x$"
NASTY_POLICY = 'policies/<b>&"long" $5$.safetensors'


def row(scenario: str, controller: str, seed: int, value: float, score: str = "latency", **others: float) -> Row:
    """Return a cell whose normalised latency and throughput are `value`."""
    metrics = {"normalised_latency_ms": value, "throughput_tokens_s": value, "goodput_requests_s": value / 100.0}
    counts = {"scored_requests": 10.0, "unfinished": 0.0, "rejected": 0.0}
    quantiles = tuple(value * (0.5 + share / 100.0) for share in range(101))
    return Row(scenario, controller, seed, score, 100, {**metrics, **counts, **others}, quantiles)  # type: ignore[arg-type]


def chosen(figures: dict[str, dict[str, list[float]]], score: str = "latency", reference: str = "a") -> Evaluation:
    """Return a comparison of `figures[scenario][controller][seed]`."""
    rows = [
        row(scenario, controller, seed, value, score)
        for scenario, of in figures.items()
        for controller, values in of.items()
        for seed, value in enumerate(values)
    ]
    seeds = tuple(sorted({row.seed for row in rows}))
    return Evaluation("python evaluate.py", "0.1.0", reference, seeds, tuple(rows))


@dataclass
class Node:
    """An element, its attributes and what is in it."""

    name: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def all(self, name: str) -> list[Node]:
        return [node for node in self.walk() if node.name == name]

    def by_id(self, id_: str) -> Node:
        return next(node for node in self.walk() if node.attributes.get("id") == id_)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def cells(self) -> dict[tuple[str, str], str]:
        """Return the text of a table's figures by (row head, column head)."""
        heads, *rows = [[n for n in tr.children if isinstance(n, Node)] for tr in self.all("tr")]
        return {
            (_head(row[0]), _head(head)): cell.text
            for row in rows
            for head, cell in zip(heads[1:], row[1:], strict=True)
        }


def _head(cell: Node) -> str:
    """Return a head cell's name, without what stands below it."""
    return next((child.text if isinstance(child, Node) else child) for child in cell.children)


class _Reader(HTMLParser):
    """Builds the tree and refuses what is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Node("")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({key for key, _ in attrs}) == len(attrs), f"{tag}: an attribute stands twice"
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read(page: str) -> Node:
    """Return the page as a tree; AssertionError if it is not well-formed."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert len(reader.open) == 1, f"not closed: {[node.name for node in reader.open[1:]]}"
    return reader.open[0]
