"""Export a run to Hugging Face: `python -m bert_jax.convert export --workdir=DIR --out=hf/`.

Writes a folder that `transformers` loads as it is, compares its logits and token ids with ours, and
prints the lines that load it in Python. docs/pytorch.md shows what to do with it.
"""

import sys
from pathlib import Path

import jax
from absl import flags

from bert_jax.common import command_line
from bert_jax.corpus.store import MANIFEST, TokenStore
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.interop import configs, hugging_face, parity
from bert_jax.interop.tokenizer_check import lines_of
from bert_jax.interop.usage import pytorch_lines
from bert_jax.model import ModelConfig, Params
from bert_jax.run.workdir import HUGGING_FACE, load_run

FLAGS = flags.FLAGS


def define_flags() -> None:
    command_line.define_workdir("The run to export", required=True)
    flags.DEFINE_string("out", None, "The folder to make. Default: <workdir>/hf")
    command_line.define_as_local("out")
    flags.DEFINE_integer("step", None, "Step of the checkpoint to export. Default: the newest")
    flags.DEFINE_enum(
        "format",
        "safetensors",
        ["safetensors", "bin"],
        "Format of the weights; bin: a PyTorch state dict (needs torch)",
    )
    flags.DEFINE_bool(
        "check",
        True,
        "Compare the logits under transformers with ours (needs torch and transformers)",
    )


def export() -> None:
    """Write the folder, check it, print what it holds and how to load it."""
    directory = command_line.workdir()
    out = Path(FLAGS.out) if FLAGS.out else directory / HUGGING_FACE
    run = load_run(directory, FLAGS.step)
    tokenizer = load_tokenizer(run.tokenizer_directory)
    corpus = run.settings.store_directory(directory)
    lines: list[str] = []
    if (corpus / MANIFEST).is_file():  # the corpus may have been deleted
        lines = lines_of(TokenStore.open(corpus).split("heldout"), tokenizer)
    hugging_face.export(
        run.params, run.model, run.tokenizer_directory, out, FLAGS.format, lines=lines[:2000]
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(run.params))
    print(
        f"Wrote {out}: {configs.architecture(run.model)} at step {run.step}, {count:,} parameters."
    )
    for path in sorted(out.iterdir()):
        print(f"  {path.name:24} {path.stat().st_size:>13,} bytes")
    print(
        "Token ids: equal to those of the training tokenizer on sample texts"
        + (f" and {len(lines[:2000]):,} lines of the corpus." if lines else ".")
    )
    print(f"Logits: {_comparison(out, run.params, run.model)}")
    code = pytorch_lines(out, mask=tokenizer.piece(tokenizer.vocabulary.mask_id))
    print(f"\nIn Python, with torch and transformers installed:\n\n{_indented(code)}\n")


def _comparison(out: Path, params: Params, model: ModelConfig) -> str:
    if not FLAGS.check:
        return "not compared (--nocheck)."
    try:
        difference = parity.verify(out, params, model)
    except parity.NotComparedError as error:
        return f"not compared: {error}."
    return f"at most {difference:.1e} from ours under transformers, padded and packed."


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


if __name__ == "__main__":
    define_flags()
    if sys.argv[1:2] == ["export"]:
        del sys.argv[1]
    elif not set(command_line.HELP) & set(sys.argv):
        sys.exit("error: say what to do: python -m bert_jax.convert export --workdir=DIR --out=DIR")
    command_line.run(export)
