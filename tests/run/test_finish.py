"""The end of a run of several processes."""

import pytest

from bert_jax.run import finish
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


@pytest.mark.slow
def test_the_other_processes_wait_for_an_export_longer_than_the_runtime_would(corpus, tmp_path):
    flags = f"--workdir={tmp_path}", "--config.total_steps=5", "--distributed"
    said = two_processes(PROGRAM, *command(corpus, *flags, launcher=()))
    assert "Its logits under transformers are within" in said  # which takes seconds
    assert finish.is_finished(tmp_path, 5)
