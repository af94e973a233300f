"""A whole page from its blocks."""

import html
from importlib import resources

# A page must never load anything: the browser refuses it, too.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(title: str, *blocks: str, subtitle: str = "", reload_seconds: int = 0) -> str:
    """A complete HTML page.

    Args:
      title: of the page.
      blocks: its contents, as HTML.
      subtitle: a line below the title.
      reload_seconds: how often an open page reads its file again; 0: never.
    """
    files = resources.files("bert_jax.common.page")
    style, script = files.joinpath("style.css").read_text(), ""
    if any('class="chart"' in block for block in blocks):
        style += files.joinpath("uPlot", "uPlot.min.css").read_text()
        uplot = files.joinpath("uPlot", "uPlot.iife.min.js").read_text()
        drawing = files.joinpath("charts.js").read_text()
        script = (
            '<noscript><p class="warning">The charts need JavaScript.</p></noscript>\n'
            f"<script>{uplot}</script>\n<script>{drawing}</script>\n"
        )
    reload = f'<meta http-equiv="refresh" content="{reload_seconds}">\n' if reload_seconds else ""
    below = f'<p class="note">{html.escape(subtitle)}</p>\n' if subtitle else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n{reload}'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n{below}{''.join(blocks)}{script}</body>\n</html>\n"
    )
