"""Held-out figures of a run: `python -m bert_jax.evaluate --workdir=DIR [--step=N]`.

Computes all of the split with the fixed masks of every evaluation, so that figures of different
runs on one token store compare where objective and last sequence length are the same.
"""

from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from bert_jax.common import command_line, memory
from bert_jax.config import corpus_directory
from bert_jax.corpus.store import TokenStore
from bert_jax.run import metrics, workdir
from bert_jax.stream.batches import all_rows
from bert_jax.training import sharding
from bert_jax.training.step import compile_steps, evaluation_sums

FLAGS = flags.FLAGS
ROWS_PER_DEVICE = 32


def define_flags() -> None:
    """Define the command's flags."""
    command_line.define_workdir("The run to evaluate", required=True)
    flags.DEFINE_integer("step", None, "The checkpoint to load. Default: the newest")
    flags.DEFINE_enum("split", "heldout", ["heldout", "train"], "The split to evaluate on")


def main() -> None:
    """Run the command."""
    run = workdir.load_run(Path(FLAGS.workdir), FLAGS.step)
    store = TokenStore.open(corpus_directory(run.workdir, run.config))
    workdir.expect_same_tokenizer(run.tokenizer_directory, store.tokenizer_directory)
    # Any machine will do: the examples and their masks do not depend on the mesh or the batch size.
    mesh = sharding.make_mesh(ConfigDict({"data": -1, "fsdp": 1, "tensor": 1}))
    batch_size = ROWS_PER_DEVICE * mesh.size
    steps = compile_steps(run.config, run.model, mesh)
    params = jax.device_put(run.params, sharding.state_shardings(mesh, run.params))

    from bert_jax.stream import pipeline  # imports TensorFlow, which takes seconds

    batches = pipeline.evaluation_batches(store, FLAGS.split, run.config, batch_size, all_rows)
    sums = evaluation_sums(mesh, steps, params, batches, batch_size)
    weight = run.config.optimizer.next_sentence_weight
    figures = metrics.summarize(jax.device_get(sums), weight)
    print(f"{run.workdir} at step {run.step}, {FLAGS.split}, {len(batches)} batches")
    for name, value in figures.items():
        print(f"  {name:16} {value:.4f}")


if __name__ == "__main__":
    memory.keep_freed_memory()
    define_flags()
    command_line.run(main)
