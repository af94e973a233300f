"""Make the token store of a config: `python -m bert_jax.prepare --config=FILE [--workdir=DIR]`.

`--verify` reads an existing store, and compares every file with its hash.

`bert_jax.train` prepares its store itself. Use this command to inspect a corpus before training,
and to prepare one store for many runs (`--config.corpus.directory=DIR`). No accelerator is
needed. With `--runner` the work is done by an Apache Beam pipeline, see docs/corpus.md.
"""

from absl import flags

from bert_jax.common import command_line
from bert_jax.config import parse
from bert_jax.corpus.build import build_store
from bert_jax.corpus.store import SPLITS, TokenStore

FLAGS = flags.FLAGS


def main() -> None:
    """Print a summary of the config's token store, which is built if it does not exist."""
    settings = parse(command_line.config())
    directory = settings.store_directory(command_line.workdir())
    if FLAGS.verify:
        print(verified(TokenStore.open(directory)))
        return
    engine = None
    if FLAGS.runner:
        from bert_jax.corpus import beam

        engine = beam.engine([f"--runner={FLAGS.runner}", *FLAGS.beam_option])
    print(summary(build_store(settings.corpus, directory, settings.objective.needs, engine)))


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
