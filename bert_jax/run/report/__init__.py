"""The report of a run: `report.html` in its workdir, and curves in a terminal.

`history.py` reads what a run recorded, `curves.py` makes charts of it, `document.py` the page,
`comparison.py` the page of several runs, `terminal.py` the curves in a terminal. `live.py` renews
the page while the run goes on.
"""

from bert_jax.run.report.document import FILE, write

__all__ = ["FILE", "write"]
