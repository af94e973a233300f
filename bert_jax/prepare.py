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
from bert_jax.corpus.store import REPORT, SPLITS, TokenStore

FLAGS = flags.FLAGS


def main() -> None:
    """Print what is in the config's token store, built if it does not exist, and a verdict."""
    settings = parse(command_line.config())
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
    print(verdict(store, settings))


def verdict(store: TokenStore, settings: RunSettings) -> str:
    """What training on the store will cost, and what should be changed before."""
    tokens = store.manifest["splits"]["train"]["tokens"]
    lines = [f"  cost     {tokens:,} tokens an epoch; {_epochs(tokens, settings)}"]
    report = store.directory / REPORT
    facts = json.loads(report.read_text()) if report.is_file() else {}
    found = facts.get("warnings", []) + pair_warnings(store.manifest, settings.objective.needs)
    warnings = list(dict.fromkeys(found))
    lines += [f"  warning  {text}" for text in warnings]
    ready = "ready to train" if not warnings else "see the warnings, then train"
    return "\n".join([*lines, f"  verdict  {ready}"])


def _epochs(tokens: int, settings: RunSettings) -> str:
    if not settings.total_steps:
        return "as many of them as fit in config.budget"
    phases = settings.stream.phases
    seen = sum(
        (phase.stop - phase.start) * phase.global_batch_size * phase.sequence_length
        for phase in phases
    )
    return (
        f"the recipe's {settings.total_steps:,} steps see {seen:,} tokens, "
        f"{seen / max(tokens, 1):.1f} epochs"
    )


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
