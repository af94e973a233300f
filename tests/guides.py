"""The commands in README and docs, and a place with what they read."""

import contextlib
import gzip
import io
import os
import re
import runpy
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from bert_jax.common import command_line
from bert_jax.common.errors import UserError
from tests import commands, finetunings
from tests.runs import ROOT, kept_programs, pages

BLOCK = re.compile(r"^( *)```(\w*)( norun)?\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(python3? -?[^`]*?(?:bert_jax|benchmarks)[^`]*)`")
INDENTED = re.compile(r"^    (python .*)$", re.MULTILINE)  # a block without a fence
SHELL = ("", "sh", "bash")
# What makes a run of a guide short; its other flags are as written.
SHORT = {
    "total_steps": 10,
    "warmup_steps": 1,
    "global_batch_size": 8,
    "eval_every": 5,
    "checkpoint_every": 5,
    "budget": "",
    "corpus.heldout_fraction": 0.2,
    "corpus.workers": 1,
    "tokenizer.vocab_size": 400,
}
SMALL = {
    "model.num_hidden_layers": 2,
    "model.hidden_size": 32,
    "model.num_attention_heads": 4,
    "model.intermediate_size": 64,
}
SHORT_FINETUNING = {"epochs": 1, "batch_size": 8, "max_length": 32, "shapes": 1}


def blocks(text: str) -> list[tuple[str, bool, str]]:
    """Language, whether it is marked `norun`, and text of each code block of a page."""
    return [(kind, bool(norun), body) for _, kind, norun, body in BLOCK.findall(text)]


def lines(body: str) -> list[str]:
    """The commands of a shell block, one a line, without comments."""
    joined = re.sub(r"\\\n *", " ", body)
    parts = [part for line in joined.splitlines() for part in re.split(r" && | \| ", line)]
    return [part.strip() for part in parts if part.strip() and not part.strip().startswith("#")]


def named_commands(text: str) -> Iterator[tuple[list[str], bool]]:
    """The words of each `python -m bert_jax.…` and `python benchmarks/…` of a page.

    Also whether it is a whole command: a line of a block, and no excerpt within a sentence.
    """
    bodies = [body for kind, _, body in blocks(text) if kind in SHELL]
    plain = re.sub(r"\\\n *", " ", BLOCK.sub("", text))
    whole = [line for body in bodies for line in lines(body)] + INDENTED.findall(plain)
    excerpts = [" ".join(part.split()) for part in INLINE.findall(plain)]
    for line in [*whole, *excerpts]:
        words = shlex.split(re.sub(r"\$\(.*\)", "X", line), comments=True)
        if words[:1] in (["python"], ["python3"]) and "<" not in line:
            yield words, line in whole


def as_main(name: str, arguments: list[str]) -> int:
    """The exit status of `python -m NAME ARGUMENTS`, in this process and with flags of its own."""
    before = sys.argv, sys.dont_write_bytecode
    # A compiled file that is written here would hold the tests' type checks.
    sys.argv, sys.dont_write_bytecode = [name, *arguments], True
    try:
        with commands.defined(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the module is imported in this process, too
            runpy.run_module(name, run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv, sys.dont_write_bytecode = before
    return 0


def check(name: str, arguments: list[str], is_whole: bool, monkeypatch) -> None:
    """Parse the command line of a command of the package: flags, config file, config fields."""

    def parse(main):
        try:
            command_line._parse_flags(sys.argv)
        except (UserError, flags.IllegalFlagValueError) as error:
            is_missing = re.search(r"is missing|other than None", str(error))
            if is_whole or not is_missing:
                raise

    monkeypatch.setattr(command_line, "run", parse)
    monkeypatch.setattr(command_line, "run_with_arguments", parse)
    assert as_main(name, arguments) == 0, arguments


def run(line: str) -> None:
    """Run a line of a shell block in the working directory; raises if it fails.

    A command of the package runs in this process, with what makes it short.
    """
    words = shlex.split(shortened(line), comments=True)
    assert words[:2] == ["python", "-m"], line
    said = io.StringIO()
    with kept_programs(), contextlib.redirect_stderr(said):
        status = as_main(words[2], words[3:])
    assert not status, f"{line}\n{said.getvalue()}"


def shortened(line: str) -> str:
    """A command of a guide on the files that `furnish` makes; the flags that make it short win."""
    line = re.sub(r"(?<=[:'=])/data/", "data/", line)
    fields: dict[str, object] = {}
    if "bert_jax.finetune " in line:
        fields = SHORT_FINETUNING
    elif "--config=" in line:
        has_its_model = re.search("continue_pretraining|distil", line)  # from another run
        fields = SHORT | ({"stream.sequence_length": 32} if has_its_model else SMALL)
        if "--config.corpus.source=" not in line:
            fields = fields | {"corpus.source": "text:data/*.txt"}
    return " ".join([line, *(f"'--config.{name}={value}'" for name, value in fields.items())])


def furnish(directory: Path, trained: Path) -> None:
    """Put what the guides read into a directory: text, labelled data, and a run."""
    for place in ("", "de", "sw", "ja", "mine", "medical"):
        path = directory / "data" / place / "pages.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(pages())
    swahili = directory / "data" / "sw" / "pages.txt"  # other text: a mixture drops duplicates
    lines = swahili.read_text().splitlines()
    swahili.write_text("\n".join(" ".join(reversed(line.split())) for line in lines))
    (directory / "data" / "pages.txt.gz").write_bytes(gzip.compress(pages().encode()))
    for name in ("train.tsv", "dev.tsv", "new.tsv"):
        path = finetunings.sentiment(directory / name, repeat=12)
        path.write_text(path.read_text().replace("sentence", "text", 1))  # the column's name
    (directory / "new.jsonl").write_text('{"text": "a warm film"}\n')
    (directory / "words.txt").write_text("iterable\ncoroutine\n")
    (directory / "texts.txt").write_text("The first text.\n\nThe second one.\n")
    (directory / "blimp").mkdir()
    pair = '{"sentence_good": "The list is empty.", "sentence_bad": "The list are empty."}\n'
    (directory / "blimp" / "anaphor_number_agreement.jsonl").write_text(pair)
    (directory / "mine").mkdir()
    shutil.copy(trained / "hf" / "tokenizer.json", directory / "mine")
    shutil.copytree(trained / "hf", directory / "FOLDER")
    for name in ("mine", "a", "b", "other"):
        shutil.copytree(trained, directory / "runs" / name)
    os.symlink(ROOT / "configs", directory / "configs")
