"""The curves of a run in a terminal, by plotext."""

from collections.abc import Sequence

from bert_jax.common.errors import UserError
from bert_jax.common.page.charts import thinned
from bert_jax.run.report.curves import curves
from bert_jax.run.report.document import duration, short
from bert_jax.run.report.history import History

SHOWN = 2  # charts: loss and accuracy of the masked tokens
POINTS = 400  # of a line; more than a terminal has columns


def draw(run: History, width: int, height: int) -> str:
    """Loss and accuracy against the step, and a line of figures, as text of `height` lines.

    Raises:
      UserError: plotext is not installed.
    """
    try:
        import plotext
    except ImportError as error:
        raise UserError("--watch needs plotext: pip install 'bert_jax[watch]'") from error
    charts = [chart for chart in curves([run])[:SHOWN] if any(line.x for line in chart.lines)]
    parts = [headline(run)]
    rows = max(8, (height - 2) // max(len(charts), 1) - 1)
    for chart in charts:
        plotext.clear_figure()
        plotext.theme("clear")
        plotext.plot_size(width, rows)
        plotext.title(chart.title)
        for line in chart.lines:
            x, y = _points(line.x, line.y, 100.0 if chart.percent else 1.0)
            plotext.plot(x, y, label=line.name)
        for name, value in chart.levels:
            steps = [line.x for line in chart.lines if line.x]
            ends = [min(map(min, steps)), max(map(max, steps))]
            plotext.plot(ends, [value, value], label=name)
        parts.append(plotext.build())
    return "\n".join(parts)


def headline(run: History) -> str:
    """Step, tokens, time and the newest figures in a line."""
    total = run.settings.total_steps
    parts = [f"{run.name}", f"step {run.step:,}/{total:,}", f"{short(run.tokens(run.step))} tokens"]
    if run.seconds:
        parts.append(duration(sum(run.seconds.values())))
    for split in ("train", "heldout"):
        record = run.last(split) or {}
        if "mlm_accuracy" in record:
            parts.append(f"{split} loss {record['loss']:.3f} acc {record['mlm_accuracy']:.3f}")
    return "  ".join(parts)


def _points(
    x: Sequence[float | int], y: Sequence[float | int], scale: float
) -> tuple[list[float], list[float]]:
    import numpy as np

    steps, values = np.asarray(x, float), np.asarray(y, float) * scale
    steps, values = steps[np.isfinite(values)], values[np.isfinite(values)]
    kept = thinned(values, POINTS)
    return steps[kept].tolist(), values[kept].tolist()
