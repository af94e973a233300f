"""Held-out figures of a run: `python -m bert_jax.evaluate --workdir=DIR [--step=N]`.

Prints losses and accuracies over the whole split (training evaluates a part of it), and those of
each source of a mixture. The masks are always the same, so figures of runs on one token store can
be compared if objective and last sequence length are equal.

With `--pairs=FILE.jsonl` it scores minimal pairs instead: in what share of them the model finds
`sentence_good` more likely than `sentence_bad`, by their pseudo-log-likelihoods. `--workdir` may
then be a folder of `transformers`, too.
"""

from pathlib import Path

import jax
from absl import flags

from bert_jax.common import command_line, console, memory
from bert_jax.corpus.store import TokenStore
from bert_jax.inference import minimal_pairs
from bert_jax.inference.pseudo_likelihood import MASKINGS, pseudo_log_likelihoods
from bert_jax.run import metrics, pretrained, workdir
from bert_jax.training import sharding
from bert_jax.training.evaluation import ALL, HeldOut
from bert_jax.training.settings import MeshSettings
from bert_jax.training.step import compile_steps

FLAGS = flags.FLAGS
ROWS_PER_DEVICE = 32


def define_flags() -> None:
    command_line.define_workdir("The run to evaluate", required=True)
    flags.DEFINE_integer("step", None, "Step of the checkpoint to load. Default: the newest")
    flags.DEFINE_enum(
        "split",
        "heldout",
        ["heldout", "train"],
        "Documents that were not trained on, or those that were",
    )
    flags.DEFINE_string(
        "pairs",
        None,
        "Score minimal pairs: a file with an object a line, with sentence_good and sentence_bad",
    )
    flags.DEFINE_enum(
        "masking",
        "token",
        MASKINGS,
        "Of --pairs. What is masked as a token is scored: it alone; also the rest of its word; all "
        "of its word",
    )


def main() -> None:
    if FLAGS.pairs:
        score_pairs(Path(FLAGS.pairs))
    else:
        evaluate_split()


def score_pairs(path: Path) -> None:
    """Print the share of minimal pairs that the model gets right; a tie counts as wrong."""
    pairs = minimal_pairs.read(path)
    console.begin(f"Scoring the {len(pairs):,} pairs of {path} with {FLAGS.workdir}")
    model = pretrained.load(FLAGS.workdir, FLAGS.step)
    sentences = [sentence for pair in pairs for sentence in pair]
    scores = pseudo_log_likelihoods(
        model.on_device, model.config, model.tokenizer, sentences, FLAGS.masking
    )
    right = int((scores[::2] > scores[1::2]).sum())
    print(f"{model.path}, {path}: {len(pairs):,} pairs, masking {FLAGS.masking}")
    print(f"  right            {right:,}")
    print(f"  accuracy         {right / len(pairs):.4f}")


def evaluate_split() -> None:
    """Print the losses and metrics over the split."""
    console.begin(f"Evaluating {FLAGS.workdir} on {FLAGS.split} documents")
    run = workdir.load_run(command_line.workdir(), FLAGS.step)
    settings = run.settings
    store = TokenStore.open(settings.store_directory(run.workdir))
    workdir.expect_same_tokenizer(run.tokenizer_directory, store.tokenizer_directory)
    # Examples and masks do not depend on the mesh or the batch size, so use all devices here.
    mesh = sharding.make_mesh(MeshSettings())
    steps = compile_steps(settings.training, run.model, mesh)
    params = jax.device_put(run.params, sharding.parameter_shardings(mesh, run.params))
    held_out = HeldOut(
        store,
        FLAGS.split,
        settings.objective,
        settings.stream.phases[-1].sequence_length,
        batch_size=ROWS_PER_DEVICE * mesh.size,
    )
    totals = held_out.totals(mesh, steps, params)
    print(f"{run.workdir} at step {run.step}, {FLAGS.split}, {len(held_out)} batches")
    for source, of_source in totals.items():
        if source != ALL and len(totals) == 2:
            continue  # the only source
        if source != ALL:
            print(f"{FLAGS.split}/{source}")
        for name, value in metrics.summarize(of_source, settings.objective.loss_weights).items():
            print(f"  {name:18} {value:.4f}")


if __name__ == "__main__":
    memory.keep_freed_memory()
    define_flags()
    command_line.run(main)
