"""A command on a terminal says at once that it begins, and takes the line away when it has."""

import os
import pty
import subprocess
import sys

from tests.runs import ROOT


def test_a_terminal_shows_the_line_during_the_imports_and_other_files_never(tmp_path):
    terminal, its_end = pty.openpty()
    command = [sys.executable, "-m", "bert_jax.checkpoints", f"--workdir={tmp_path}/nowhere"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=its_end)
    os.close(its_end)
    said = os.read(terminal, 100).decode()
    assert said == "Importing JAX ..."
    assert not process.stdout.read()
    assert process.wait() == 1
    rest = os.read(terminal, 1000).decode()
    os.close(terminal)
    assert rest.startswith("\r\033[Kerror: ")
