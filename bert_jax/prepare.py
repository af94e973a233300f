"""Make the token store of a config: `python -m bert_jax.prepare --config=FILE [--workdir=DIR]`.

`--verify` reads an existing store, and compares every file with its hash.

`bert_jax.train` prepares its store itself. Use this command to inspect a corpus before training,
and to prepare one store for many runs (`--config.corpus.directory=DIR`). No accelerator is
needed. With `--runner` the work is done by an Apache Beam pipeline, see docs/corpus.md.
"""

import json

from absl import flags

from bert_jax.common import command_line
from bert_jax.config import RunSettings, parse
from bert_jax.corpus.audit import pair_warnings
from bert_jax.corpus.build import build_store
from bert_jax.corpus.report import FLOOR_REMARK
from bert_jax.corpus.store import REPORT, SPLITS, TokenStore

FLAGS = flags.FLAGS
MOST_EPOCHS = 40  # more of the same text teach little: docs/own-text.md


def main() -> None:
    """Print what is in the config's token store, built if it does not exist, and a verdict."""
    config = command_line.config()
    settings = parse(config)
    directory = settings.store_directory(command_line.workdir())
    if FLAGS.verify:
        print(verified(TokenStore.open(directory)))
        return
    engine = None
    if FLAGS.runner:
        from bert_jax.corpus import beam

        engine = beam.engine([f"--runner={FLAGS.runner}", *FLAGS.beam_option])
    store = build_store(settings.corpus, directory, settings.objective.needs, engine)
    print(summary(store))
    print(verdict(store, settings, config.total_steps))


def verdict(store: TokenStore, settings: RunSettings, steps: int) -> str:
    """What training on the store will cost, and what should be changed before.

    Args:
      store: the store.
      settings: of the config.
      steps: the config's `total_steps`; 0: the run is given in time.
    """
    tokens = store.manifest["splits"]["train"]["tokens"]
    seen = sum(
        (phase.stop - phase.start) * phase.global_batch_size * phase.sequence_length
        for phase in settings.stream.phases
    )
    epochs = seen / max(tokens, 1)
    cost = "as many of them as fit in config.budget"
    if steps:
        cost = f"the recipe's {steps:,} steps see {seen:,} tokens, {epochs:.1f} epochs"
    lines = [f"  cost     {tokens:,} tokens an epoch; {cost}"]
    report = store.directory / REPORT
    facts = json.loads(report.read_text()) if report.is_file() else {}
    found = facts.get("warnings", []) + pair_warnings(store.manifest, settings.objective.needs)
    warnings = list(dict.fromkeys(found))
    if steps and epochs > MOST_EPOCHS:
        fewer = max(1, int(steps * MOST_EPOCHS / epochs))
        warnings.append(
            f"{epochs:,.0f} epochs of the same text: more than about {MOST_EPOCHS} teach little; "
            f"config.total_steps={fewer} is {MOST_EPOCHS} epochs"
        )
    lines += [f"  warning  {text}" for text in warnings]
    ready = "ready to train" if not warnings else "see the warnings, then train"
    return "\n".join([*lines, f"  verdict  {ready}"])


def summary(store: TokenStore) -> str:
    """Counts of a store by split, and what was removed, as text."""
    lines = [f"Token store: {store.directory}"]
    for name in SPLITS:
        counts = store.manifest["splits"][name]
        text_tokens = max(1, counts["tokens"] - 2 * counts["documents"])
        lines.append(
            f"  {name:8} {counts['documents']:,} documents, {counts['sentences']:,} sentences, "
            f"{counts['tokens']:,} tokens; {counts['characters'] / text_tokens:.2f} characters a "
            f"token, {counts['unknown'] / text_tokens:.3%} unknown"
        )
    if store.manifest["heldout"]["start"] is not None:
        lines[-1] += f" {FLOOR_REMARK}"
    removed = (f"{n:,} {cause.replace('_', ' ')}" for cause, n in store.manifest["removed"].items())
    lines.append(f"  removed  {', '.join(removed)}")
    return "\n".join([*lines, f"  audit    {store.directory / 'report.html'}"])


def verified(store: TokenStore) -> str:
    """Check all files of a store, and return a line that confirms it.

    Raises:
      UserError: a file does not match its hash.
    """
    store.verify()
    files = store.manifest["files"].values()
    size = sum(facts["bytes"] for facts in files) / 1e6
    return f"Token store: {store.directory}: {len(files)} files, {size:.1f} MB, are undamaged"


def define_flags() -> None:
    flags.DEFINE_boolean("verify", False, "Compare the files of a store with their hashes")
    flags.DEFINE_string("runner", "", "Apache Beam runner: DirectRunner, FlinkRunner, ...")
    flags.DEFINE_multi_string("beam_option", [], "With --runner: an option of the pipeline")


if __name__ == "__main__":
    define_flags()
    command_line.define_config()
    command_line.run(main)
