"""Pieces of a page as HTML. Texts are escaped here, blocks are taken as they are."""

import html
from collections.abc import Iterable, Sequence
from typing import Any


def section(title: str, *blocks: str) -> str:
    """Blocks under a heading."""
    return f"<section><h2>{html.escape(title)}</h2>\n{''.join(blocks)}</section>\n"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of text; `kind` is a class of style.css, such as `note`."""
    return (
        f'<p class="{kind}">{html.escape(text)}</p>\n' if kind else f"<p>{html.escape(text)}</p>\n"
    )


def warnings(texts: Sequence[str], none: str = "No warnings.") -> str:
    """Each warning in a box that stands out; without any, `none` in the colour of good news."""
    if not texts:
        return f'<p class="fine">{html.escape(none)}</p>\n' if none else ""
    return "".join(f'<p class="warning">Warning: {html.escape(text)}</p>\n' for text in texts)


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """The main figures of a page, as (value, what it is)."""
    parts = (
        f"<div><b>{html.escape(value)}</b><span>{html.escape(label)}</span></div>"
        for value, label in figures
    )
    return f'<div class="tiles">{"".join(parts)}</div>\n'


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], none: str = "none") -> str:
    """A table; numbers are aligned right. It scrolls inside its own box where it is too wide."""
    body = "".join("<tr>" + "".join(map(cell, row)) + "</tr>\n" for row in rows)
    if not body:
        return paragraph(none)
    names = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    top = f"<thead><tr>{names}</tr></thead>" if any(head) else ""
    return f'<div class="wide"><table>{top}<tbody>\n{body}</tbody></table></div>\n'


def cell(value: Any) -> str:
    """A cell of a table: integers with thousands separators, floats with four digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{html.escape(str(value))}</td>"
    text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return f'<td class="number">{text}</td>'


def code(text: str) -> str:
    """Commands or source code."""
    return f"<pre><code>{html.escape(text)}</code></pre>\n"


def details(summary: str, *blocks: str) -> str:
    """Blocks that are hidden until the reader opens them."""
    return f"<details><summary>{html.escape(summary)}</summary>\n{''.join(blocks)}</details>\n"


def link(text: str, target: str) -> str:
    """A paragraph with a link to another local file."""
    return f'<p><a href="{html.escape(target)}">{html.escape(text)}</a></p>\n'
