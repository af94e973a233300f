"""The learning curves of a run, as a picture and as a page that stands by itself."""

import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_jax.run import metrics
from bert_jax.run.workdir import load_config, write_whole

FILE = "report.html"
Records = Sequence[Mapping[str, Any]]

_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; color: #222 }}
td, th {{ padding: 0.1em 1.5em 0.1em 0; text-align: left; font-variant-numeric: tabular-nums }}
svg {{ width: 100%; height: auto }} pre {{ background: #f5f5f5; padding: 1em; overflow: auto }}
</style>
<h1>{title}</h1>
{picture}
<h2>Held-out figures</h2>
{table}
<h2>Config</h2>
<pre>{config}</pre>
"""


def write(workdir: Path) -> Path:
    """Write `report.html` of the run in `workdir` and return its path."""
    records = metrics.read(workdir)
    page = _PAGE.format(
        title=html.escape(f"Training run {workdir}"),
        picture=learning_curves(records),
        table=_table([record for record in records if record["split"] != "train"]),
        config=html.escape(json.dumps(load_config(workdir).to_dict(), indent=2)),
    )
    path = workdir / FILE
    write_whole(path, page)
    return path


def learning_curves(records: Records) -> str:
    """Loss and masked-token accuracy over the steps, training and held-out, as an SVG element."""
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
                curve = [(r["step"], r[name]) for r in records if r["split"] == split]
                style = "-" if split == "train" else "o-"
                axis.plot(*zip(*curve, strict=True), style, label=split, linewidth=1.2)
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
    names = list(dict.fromkeys(name for record in records for name in record))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(record.get(name, ''))}</td>" for name in names) + "</tr>"
        for record in records
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))
