"""HTML pages in one file: the style and the blocks that all reports share.

A page opens from disk, loads nothing, follows the reader's colour scheme and fits a phone. Blocks
are pieces of HTML; whatever text goes into them is escaped.
"""

from bert_jax.common.page.blocks import (
    cell,
    code,
    details,
    link,
    paragraph,
    section,
    table,
    tiles,
    warnings,
)
from bert_jax.common.page.charts import Chart, Line, Mark, charts
from bert_jax.common.page.document import page

__all__ = [
    "Chart",
    "Line",
    "Mark",
    "cell",
    "charts",
    "code",
    "details",
    "link",
    "page",
    "paragraph",
    "section",
    "table",
    "tiles",
    "warnings",
]
