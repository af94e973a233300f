"""The report of a run: learning curves and figures in one HTML file without other files."""

import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_jax.common.atomic import write_text
from bert_jax.run import metrics
from bert_jax.run.workdir import load_config

FILE = "report.html"
Records = Sequence[Mapping[str, Any]]

_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; color: #222 }}
td, th {{ padding: 0.1em 1.5em 0.1em 0; text-align: left; font-variant-numeric: tabular-nums }}
svg {{ width: 100%; height: auto }} pre {{ background: #f5f5f5; padding: 1em; overflow: auto }}
.warning {{ background: #fff3cd; padding: 0.5em 1em }}
</style>
<h1>{title}</h1>
{warnings}
{picture}
<h2>Held-out figures</h2>
{table}
<h2>Config</h2>
<pre>{config}</pre>
"""


def write(workdir: Path, warnings: Sequence[str] = ()) -> Path:
    """Write `report.html` of the run in `workdir` and return its path.

    Args:
      workdir: of the run.
      warnings: what the reader must know first; shown at the top.
    """
    records = metrics.read(workdir)
    page = _PAGE.format(
        title=html.escape(f"Training run {workdir}"),
        warnings="\n".join(
            f'<p class="warning">Warning: {html.escape(text)}</p>' for text in warnings
        ),
        picture=learning_curves(records),
        table=_table([record for record in records if record["split"] != "train"]),
        config=html.escape(json.dumps(load_config(workdir).to_dict(), indent=2)),
    )
    path = workdir / FILE
    write_text(path, page)
    return path


def learning_curves(records: Records) -> str:
    """Masked-token loss and accuracy against the step, one curve a split, as an SVG element."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bert_jax"}):
        figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
        for axis, name, label in zip(
            axes,
            ("mlm_loss", "mlm_accuracy"),
            ("masked-token loss (nats)", "masked-token accuracy"),
            strict=True,
        ):
            for split in dict.fromkeys(record["split"] for record in records):
                points = [r for r in records if r["split"] == split and name in r]
                steps, values = [r["step"] for r in points], [r[name] for r in points]
                style = "-" if split == "train" else "o-"
                axis.plot(steps, values, style, label=split, linewidth=1.2)
            axis.set_xlabel("step")
            axis.set_ylabel(label)
            axis.grid(alpha=0.3)
        if records:
            axes[0].legend(frameon=False)
        picture = io.StringIO()
        figure.savefig(picture, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    text = picture.getvalue()
    return text[text.index("<svg") :]


def _table(records: Records) -> str:
    names = list(dict.fromkeys(name for record in records for name in record if name != "time"))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(record.get(name, ''))}</td>" for name in names) + "</tr>"
        for record in records
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))
