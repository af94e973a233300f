"""Runs of the launch scripts."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command, path=None, expect=0, **variables):
    """What a script prints on standard output, or on standard error where it has to fail.

    Args:
      command: the script, relative to the repository, and its arguments.
      path: a directory whose programs come first: stand-ins for those that are not here.
      expect: the exit status.
      variables: environment variables for it.
    """
    search = [str(path)] if path else []
    search += [str(Path(sys.executable).parent), os.environ["PATH"]]
    env = os.environ | {"PATH": ":".join(search)} | variables
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stderr if expect else done.stdout


def write_program(path, text):
    """A program of the test's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path
