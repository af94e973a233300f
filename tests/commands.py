"""Commands run inside the test's process, with flags and status as on the command line."""

import contextlib
import io
import sys
from collections.abc import Callable
from typing import NamedTuple

from absl import flags

from bert_jax.common import command_line


class Done(NamedTuple):
    status: int
    out: str
    err: str

    def error(self) -> str:
        """The one line that a refused command ends in."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert self.status == 1
        assert "Traceback" not in self.err
        return line


@contextlib.contextmanager
def defined(*define: Callable[[], None]):
    """Flags for the block alone: in one process the commands' names would collide."""
    before = set(flags.FLAGS)
    try:
        for each in define:
            each()
        yield
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


def run(define: Callable[[], None], main: Callable[[], None], *args: object, input: str = ""):
    """What `python -m bert_jax.<command> ARGS` would do."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    argv, stdin = sys.argv, sys.stdin
    sys.argv = ["command", *map(str, args)]  # the flags of configs are read from there
    sys.stdin = io.StringIO(input)
    try:
        with defined(define), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            command_line._guarded(lambda: command_line._parse(sys.argv))
            command_line._guarded(main)
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.argv, sys.stdin = argv, stdin
    return Done(status, out.getvalue(), err.getvalue())
