import subprocess
import sys

import pytest

from bert_jax.config import parse
from bert_jax.stream.batches import TrainBatches, all_rows
from bert_jax.stream.evaluation import EvaluationBatches
from bert_jax.stream.pipeline import evaluation_batches, train_batches
from bert_jax.training.objectives import parse_objective
from tests.stream.parts import assert_equal, part


@pytest.mark.parametrize("objective", ["packed", "nsp"])
def test_resuming_at_a_step_gives_the_tail_of_the_unbroken_stream(store, config, objective):
    config.stream.objective = objective
    batches = TrainBatches(store, parse(config).stream)
    unbroken = list(train_batches(batches, 0, 20, all_rows))
    assert len(unbroken) == 20
    for step, batch in enumerate(train_batches(batches, 13, 20, all_rows), 13):
        assert_equal(batch, unbroken[step])


def test_stream_runs_through_the_phases_with_the_rows_of_its_process(store, config):
    config.stream.phases = ({"until": 0.2}, {"until": 1.0, "global_batch_size": 16})
    batches = TrainBatches(store, parse(config).stream)
    rows = part(1, 2)
    for step, batch in enumerate(train_batches(batches, 7, 14, rows), 7):
        assert_equal(batch, batches.batch(step, rows))
    assert step == 13


def test_evaluation_can_be_iterated_again(store, config):
    config.stream.objective = "nsp"
    batches = EvaluationBatches(store, "heldout", parse_objective(config), 32, 8)
    stream = evaluation_batches(batches)
    assert len(stream) == len(batches) > 1
    for _ in range(2):
        for index, batch in enumerate(stream):
            assert_equal(batch, batches.batch(index))
        assert index == len(batches) - 1


def test_only_the_pipeline_imports_tensorflow():
    code = "import sys, bert_jax.stream.batches; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_process_can_end_in_the_middle_of_a_stream():
    code = """
import sys, time
import numpy as np
from bert_jax.stream.pipeline import BatchStream

def build(index):
    time.sleep(0.1)  # so that the end of the process meets a batch in the making
    return {"input_ids": np.zeros((2, 8), np.int32)}

batches = iter(BatchStream(build, range(1000)))
next(batches), next(batches)
sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 7
