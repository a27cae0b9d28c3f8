"""HTML made of elements: text that is not `Html` already is escaped, so no caller can forget to."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Html(str):
    """Text that is HTML already and goes into a page as it is."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: str | None) -> Html:
    """Return `<name attributes>children</name>`; an attribute of None is left out.

    Underscores in an attribute's name stand for hyphens, and one at its end for nothing: `class_`, `aria_label`.
    """
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    written = "".join(f' {key}="{escape(value)}"' for key, value in pairs if value is not None)
    return Html(f"<{name}{written}>{joined(children)}</{name}>")


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Return the parts one after another, each escaped unless it is `Html`."""
    return Html(between.join(part if isinstance(part, Html) else escape(part) for part in parts))


def table(caption: str, head: Iterable[Html], body: Iterable[Iterable[Html]]) -> Html:
    """Return a table of `th` and `td` cells that scrolls sideways within itself, also by keyboard."""
    rows = (element("tr", *row) for row in body)
    parts = (element("thead", element("tr", *head)), element("tbody", *rows))
    named = element("table", element("caption", element("span", caption)), *parts)
    return element("div", named, class_="scroll", role="region", tabindex="0", aria_label=caption)


def definitions(pairs: Iterable[tuple[str, str]]) -> Html:
    """Return a list of terms and what is said of each."""
    return element("dl", *(element("div", element("dt", term), element("dd", said)) for term, said in pairs))
