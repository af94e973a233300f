"""The end of a run: its export, and of several processes."""

import shutil

import pytest

from bert_jax.run import finish
from bert_jax.run.workdir import FINISHED, HUGGING_FACE
from tests.runs import command, two_processes

# The train command, in a runtime that waits one second, not 300, for the others to end.
PROGRAM = """
import functools, runpy, sys
import jax
jax.distributed.initialize = functools.partial(
    jax.distributed.initialize, shutdown_timeout_seconds=1
)
runpy.run_module("bert_jax.train", run_name="__main__", alter_sys=True)
"""


def test_a_folder_that_was_changed_is_kept_and_the_run_not_finished(finished, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    (workdir / FINISHED).unlink()
    (workdir / HUGGING_FACE / "README.md").write_text("Our model.")
    finish.finish(workdir)
    said = capsys.readouterr().out
    assert f"with the folder {workdir / HUGGING_FACE}" not in said
    assert said.splitlines()[-1].startswith("Warning: the run was not exported: ")
    assert "was not exported: " in (workdir / "report.html").read_text()
    assert (workdir / HUGGING_FACE / "README.md").read_text() == "Our model."
    assert not finish.is_finished(workdir, 20)  # the next start tries again


@pytest.mark.slow
def test_the_other_processes_wait_for_an_export_longer_than_the_runtime_would(corpus, tmp_path):
    flags = f"--workdir={tmp_path}", "--config.total_steps=5", "--distributed"
    said = two_processes(PROGRAM, *command(corpus, *flags, launcher=()))
    assert "Its logits under transformers are within" in said  # which takes seconds
    assert finish.is_finished(tmp_path, 5)
