"""A matplotlib figure as SVG within a page: the page's own letters and colours, and ids that are its alone."""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from dsd_gym.comparison.plot_style import COLOURS
from dsd_gym.comparison.report.markup import Html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "dsd_gym", "savefig.transparent": True, "savefig.dpi": 150}
"""For matplotlib, while the figure is drawn and written: letters stay text, and equal figures equal bytes."""

VARIABLES = {
    "#000000": "currentColor",
    "#e5e5e5": "var(--grid)",
    "#f2f2f2": "var(--band)",
    "#ffffff": "var(--paper)",
    **{colour.lower(): f"var(--series-{index})" for index, colour in enumerate(COLOURS) if index},
}
"""What stands for a colour of the pictures in style.css, which has another for dark pages."""

_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def inline_svg(figure: Figure, name: str, description: str) -> Html:
    """Return the figure as an `svg` element with `description` for those who cannot see it.

    Args:
        name: unique in the page; begins every id.
    """
    written = BytesIO()
    figure.savefig(written, format="svg", metadata=_NO_METADATA)
    root = ElementTree.fromstring(written.getvalue())
    for node in root.iter():
        node.tag = _local(node.tag)
        node.attrib = {_local(key): _rewritten(_local(key), value, name) for key, value in node.attrib.items()}
    for unwanted in ("metadata", "defs/style/.."):  # a style would hold for the whole page
        for node in root.findall(unwanted):
            root.remove(node)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": description}
    return Html(ElementTree.tostring(root, encoding="unicode"))


def _local(name: str) -> str:
    """Return a name without its namespace, which HTML supplies."""
    return name.rpartition("}")[2]


def _rewritten(key: str, value: str, name: str) -> str:
    """Return an attribute's value with the page's colours and ids of this figure alone."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value[1:]}" if value.startswith("#") else value
    if key == "style":
        value = re.sub(r"#[0-9a-f]{6}\b", lambda found: VARIABLES.get(found[0], found[0]), value)
    return value.replace("url(#", f"url(#{name}-")
