"""Learning curves: `python -m bert_jax.report runs/a`, or `… runs/a runs/b` to compare runs.

Writes the page of a run again (`report.html` in its workdir), or one page in which the curves of
several runs lie over one another, with a list of the config fields in which they differ. `--watch`
draws the curves in the terminal instead, anew every few seconds.
"""

import shutil
import sys
import time
from pathlib import Path

from absl import flags

from bert_jax.common import command_line
from bert_jax.common.atomic import write_text
from bert_jax.common.errors import UserError
from bert_jax.run import report
from bert_jax.run.report import comparison, terminal
from bert_jax.run.report.history import read

FLAGS = flags.FLAGS
SECONDS = 10  # between two drawings


def define_flags() -> None:
    flags.DEFINE_boolean("watch", False, "Draw the curves of one run in the terminal")
    flags.DEFINE_string("out", None, "Page of several runs. Default: comparison.html beside them")


def main(directories: list[str]) -> None:
    """Report the runs in `directories`."""
    if not directories:
        raise UserError("name at least one run: python -m bert_jax.report runs/quickstart")
    workdirs = [Path(directory) for directory in directories]
    if FLAGS.watch:
        if len(workdirs) > 1:
            raise UserError(f"--watch draws one run, and {len(workdirs)} are named: name one")
        return watch(workdirs[0])
    if len(workdirs) == 1:
        print(f"Wrote {report.write(workdirs[0])}")
        return None
    runs = [read(workdir) for workdir in workdirs]
    path = Path(FLAGS.out) if FLAGS.out else comparison.default_path(runs)
    write_text(path, comparison.document(runs))
    print(f"Wrote {path}")
    return None


def watch(workdir: Path) -> None:
    """Draw a run's curves; on a terminal again and again, until it is finished or Ctrl-C."""
    while True:
        run = read(workdir)
        size = shutil.get_terminal_size()
        picture = terminal.draw(run, size.columns, size.lines - 1)
        if not sys.stdout.isatty():
            print(picture)
            return
        print(f"\033[2J\033[H{picture}", flush=True)
        if run.finished:
            return
        time.sleep(SECONDS)


if __name__ == "__main__":
    define_flags()
    command_line.run_with_arguments(main)
