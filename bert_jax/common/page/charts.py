"""Line charts of a page: described here, drawn in the browser by uPlot (charts.js).

uPlot (MIT, https://github.com/leeoniya/uPlot) is 50 KB, where Plotly's basic bundle is 1 MB; it
draws tens of thousands of points at once and shows the values under the pointer.
"""

import dataclasses
import html
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

Numbers = Sequence[float | int]
MOST_POINTS = 2000  # of a line; longer ones keep the lowest and highest point of each stretch


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
      name: in the legend.
      x: ascending.
      y: as many as `x`; NaN and infinity leave a gap.
      color: index of a colour; None: of the line's place. Lines that belong together share one.
      is_dashed: drawn dashed.
      has_points: each point is marked, for lines with few of them.
      is_stepped: keeps its value until the next point.
    """

    name: str
    x: Numbers
    y: Numbers
    color: int | None = None
    is_dashed: bool = False
    has_points: bool = False
    is_stepped: bool = False


@dataclasses.dataclass(frozen=True)
class Mark:
    """A vertical line of a chart; its text is shown when the pointer is near.

    Attributes:
      x: where.
      text: what happened there.
      kind: `phase` | `restart` | `warning`, across the chart, or `checkpoint`, a tick below it.
    """

    x: float | int
    text: str
    kind: str


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
      title: above it.
      x_label: name of the horizontal axis.
      lines: at least one of them has points.
      levels: horizontal lines, as (name, value).
      marks: vertical lines.
      note: a sentence below it.
      is_log_x, is_log_y: logarithmic axes; values of 0 and less are left out.
      percent: the values are shares, shown in percent.
      group: charts of one group show the pointer at the same place.
    """

    title: str
    x_label: str
    lines: Sequence[Line]
    levels: Sequence[tuple[str, float | int]] = ()
    marks: Sequence[Mark] = ()
    note: str = ""
    is_log_x: bool = False
    is_log_y: bool = False
    percent: bool = False
    group: str = ""


def charts(each: Sequence[Chart]) -> str:
    """The charts side by side, as many as fit; those without a point are left out."""
    drawn = [_chart(chart) for chart in each if any(len(line.x) for line in chart.lines)]
    return f'<div class="charts">\n{"".join(drawn)}</div>\n' if drawn else ""


def _chart(chart: Chart) -> str:
    values = dataclasses.asdict(chart)
    values["lines"] = [_line(line, index, chart) for index, line in enumerate(chart.lines)]
    # "<" would end the script element, whatever the text around it.
    text = json.dumps(values, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    note = f"<p class=note>{html.escape(chart.note)}</p>" if chart.note else ""
    return (
        f'<figure class="chart"><figcaption>{html.escape(chart.title)}</figcaption>'
        f'<p class="pointed"></p><div class="plot"></div>{note}'
        f'<script type="application/json">{text}</script></figure>\n'
    )


def _line(line: Line, index: int, chart: Chart) -> dict[str, Any]:
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    if chart.is_log_x:
        x, y = x[x > 0], y[x > 0]
    if chart.is_log_y:
        y = np.where(y > 0, y, np.nan)
    kept = thinned(y, MOST_POINTS)
    return {
        "name": line.name,
        "x": x[kept].tolist(),
        "y": [float(f"{value:.5g}") if np.isfinite(value) else None for value in y[kept]],
        "color": index if line.color is None else line.color,
        "is_dashed": line.is_dashed,
        "has_points": line.has_points or len(kept) == 1,
        "is_stepped": line.is_stepped,
    }


def thinned(y: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most `most` points that keep every spike: of each stretch, lowest and highest.

    A value that is not finite counts as highest, so that the gap it leaves stays.
    """
    if len(y) <= most:
        return np.arange(len(y))
    ordered = np.where(np.isfinite(y), y, np.inf)
    kept = [0, len(y) - 1]
    for stretch in np.array_split(np.arange(len(y)), most // 2 - 1):
        kept += [stretch[ordered[stretch].argmin()], stretch[ordered[stretch].argmax()]]
    return np.unique(kept)
