"""Import pretrained encoders, and export runs to Hugging Face.

`python -m bert_jax.convert import --from=FOLDER --workdir=DIR` makes a workdir of a BERT, RoBERTa
or ModernBERT folder of `transformers`, of one of Google's checkpoints, or of another run, as it is
or with another vocabulary. docs/conversion.md shows what to do with it.

`python -m bert_jax.convert export --workdir=DIR --out=hf/` writes a folder that `transformers`
loads as it is, compares its logits and token ids with ours, and prints the lines that load it in
Python. docs/pytorch.md shows what to do with it.
"""

import json
import sys
from pathlib import Path
from typing import get_args

import jax
from absl import flags

from bert_jax.common import bucket, command_line, console
from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import open_tokenizer
from bert_jax.corpus.tokenizers.text_files import read_utf8
from bert_jax.interop import parity, vocabulary_change
from bert_jax.interop.extension import extend
from bert_jax.interop.folder_tokenizer import open_folder_tokenizer, open_wordpiece
from bert_jax.interop.sentence_transformers import POOLINGS
from bert_jax.interop.tensor_files import Dtype
from bert_jax.interop.tokenizer_check import SAMPLES
from bert_jax.run import exports, imported, pretrained
from bert_jax.run.workdir import HUGGING_FACE, Run, load_run

FLAGS = flags.FLAGS


def define_import_flags() -> None:
    """Define the flags of `convert import`."""
    flags.DEFINE_string(
        "from",
        None,
        "What to import: a folder of transformers, of one of Google's checkpoints, or a workdir, "
        "or workdir@step",
        required=True,
    )
    command_line.define_workdir("The directory to make", required=True)
    command_line.define_as_local("workdir")
    flags.DEFINE_bool("allow_pickle", False, "Read weights that are pickles (pytorch_model.bin)")
    flags.DEFINE_string(
        "vocabulary",
        None,
        "Another tokenizer for the encoder: a tokenizer.json, vocab.txt, sentencepiece model, or a "
        "folder with one",
    )
    flags.DEFINE_string("add_tokens", None, "A text file of words to add as tokens, one a line")
    flags.DEFINE_enum(
        "new_embeddings",
        "mean",
        vocabulary_change.NEW_EMBEDDINGS,
        "How a new token's vector starts: mean of the old tokenizer's pieces for it, or random",
    )


def import_() -> None:
    """Make the workdir, and print what it holds and what to type next."""
    source, workdir = str(FLAGS["from"].value), Path(FLAGS.workdir)
    console.begin(f"Reading {source}")
    model = pretrained.load(source, allow_pickle=FLAGS.allow_pickle, flag="--from")
    config, params, tokenizer = model.config, model.params, model.tokenizer
    if new := _new_tokenizer(tokenizer):
        change = vocabulary_change.compare(tokenizer, new)
        vectors = FLAGS.new_embeddings
        config, params = vocabulary_change.apply(change, params, config, new, vectors)
        for line in vocabulary_change.describe(change, tokenizer, new, vectors):
            print(line)
        tokenizer = new
    imported.create(workdir, config, params, tokenizer, source)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(
        f"Wrote {workdir}: {config.num_hidden_layers} layers x {config.hidden_size}, "
        f"{config.vocab_size:,} tokens, {count:,} parameters, from {source}.\n"
        "Next:\n"
        f"    python -m bert_jax.fill_mask --workdir={workdir} --text='... {model.mask} ...'\n"
        f"    python -m bert_jax.train --config=configs/continue_pretraining.py:{workdir} "
        "--config.corpus.source='text:...' --workdir=..."
    )


def _new_tokenizer(old: Tokenizer) -> Tokenizer | None:
    """The tokenizer that the flags ask for; None: the old one stays."""
    if FLAGS.vocabulary and FLAGS.add_tokens:
        raise UserError("--vocabulary and --add_tokens exclude each other: give one of them")
    if FLAGS.add_tokens:
        path = Path(FLAGS.add_tokens)
        if not path.is_file():
            raise UserError(f"--add_tokens={path} is missing: there is no such file")
        return extend(old, read_utf8(path).splitlines())
    if FLAGS.vocabulary:
        path = Path(FLAGS.vocabulary)
        if path.is_dir():
            return open_folder_tokenizer(path)
        if not path.is_file():
            raise UserError(f"--vocabulary={path} is missing: there is no such file")
        if path.suffix == ".txt":
            return open_wordpiece(path)
        return open_tokenizer(path, lowercase=False)
    return None


def define_flags() -> None:
    """Define the flags of `convert export`."""
    command_line.define_workdir("The run to export", required=True)
    flags.DEFINE_string("out", None, "The folder to make. Default: <workdir>/hf")
    command_line.define_as_local("out")
    flags.DEFINE_integer("step", None, "Step of the checkpoint to export. Default: the newest")
    flags.DEFINE_enum(
        "kind",
        "pretraining",
        exports.KINDS,
        "What to export: the model with its pretraining heads; the encoder alone; or a model of "
        "sentence-transformers",
    )
    flags.DEFINE_enum(
        "format",
        "safetensors",
        ["safetensors", "bin"],
        "Format of the weights; bin: a PyTorch state dict (needs torch)",
    )
    flags.DEFINE_enum("dtype", "float32", get_args(Dtype), "Of the weights")
    flags.DEFINE_enum("pooling", "mean", POOLINGS, "Of sentence_transformers: mean or first token")
    flags.DEFINE_bool("normalize", True, "Of sentence_transformers: vectors of length 1")
    flags.DEFINE_integer("max_length", 512, "Of sentence_transformers: tokens of a text")
    flags.DEFINE_bool("onnx", False, "Write onnx/model.onnx, too, for ONNX Runtime")
    flags.DEFINE_bool(
        "int8", False, "Write onnx/model_int8.onnx, too, for CPUs, and print what it loses"
    )
    flags.DEFINE_string("license", "unknown", "For the model card, such as apache-2.0")
    flags.DEFINE_bool(
        "check",
        True,
        "Compare the outputs under transformers with ours (needs torch and transformers)",
    )


def export() -> None:
    """Write the folder, check it, print what it holds and how to load it."""
    directory = command_line.workdir()
    out = Path(FLAGS.out) if FLAGS.out else directory / HUGGING_FACE
    console.begin(f"Exporting {directory} to {out}, and checking it")
    run = load_run(directory, FLAGS.step)
    settings = exports.Settings(
        kind=FLAGS.kind,
        format=FLAGS.format,
        dtype=FLAGS.dtype,
        pooling=FLAGS.pooling,
        normalize=FLAGS.normalize,
        max_length=min(FLAGS.max_length, run.model.max_position_embeddings),
        licence=FLAGS.license,
        onnx=FLAGS.onnx,
        int8=FLAGS.int8,
    )
    texts = exports.heldout_lines(run)
    exports.export(run, out, settings, texts)
    bucket.push(directory)
    count = sum(leaf.size for leaf in jax.tree.leaves(run.params))
    values = json.loads((out / "config.json").read_text())
    print(f"Wrote {out}: {values['architectures'][0]} at step {run.step}, {count:,} parameters.")
    for path in sorted(out.rglob("*")):
        if path.is_file():
            print(f"  {path.relative_to(out)!s:32} {path.stat().st_size:>13,} bytes")
    print(
        "Token ids: equal to those of the training tokenizer on sample texts"
        + (f" and {len(texts):,} lines of the corpus." if texts else ".")
    )
    print(f"Outputs: {_comparison(run, out, settings, texts)}")
    if FLAGS.check and (FLAGS.onnx or FLAGS.int8):
        # With samples, since all lines may be shorter or longer than those that are compared.
        print("\n".join(exports.verify_onnx(run, out, settings, [*texts, *SAMPLES])))
    code = exports.usage(run, out, settings)
    print(f"\nIn Python, with torch and transformers installed:\n\n{_indented(code)}\n")


def _comparison(run: Run, out: Path, settings: exports.Settings, texts: list[str]) -> str:
    if not FLAGS.check:
        return "not compared (--nocheck)."
    try:
        difference = exports.verify(run, out, settings, texts)
    except parity.NotComparedError as error:
        return f"not compared: {error}."
    if settings.kind == "sentence_transformers":
        return f"vectors at most {difference:.1e} from ours under sentence-transformers."
    return f"at most {difference:.1e} from ours under transformers, on random ids and on text."


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


COMMANDS = {"import": (define_import_flags, import_), "export": (define_flags, export)}

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        define, command = COMMANDS[sys.argv.pop(1)]
    elif set(command_line.HELP) & set(sys.argv):
        define, command = define_flags, export
    else:
        sys.exit(
            "error: say what to do: python -m bert_jax.convert export --workdir=DIR --out=DIR, or "
            "python -m bert_jax.convert import --from=FOLDER --workdir=DIR"
        )
    define()
    command_line.run(command)
