"""Speed and memory from plain text to the token store, beside `datasets` and `transformers`.

    python benchmarks/corpus_speed.py --text=FILE [--language=zh] [--json=FILE]
    python benchmarks/corpus_speed.py --text=FILE --shape=ten_times
    python benchmarks/corpus_speed.py --text=FILE --shape=one_line

Needs `pip install 'bert_jax[benchmarks]'`. The tokenizer is given: it is trained on the text's
beginning before the clock starts. The peer is `datasets.load_dataset("text")` and
`map(batched=True, num_proc=2)` of the same tokenizer in its exported, fast form; it only writes
ids: it does not clean, split, look for duplicates or sentences, or count. Sides run in turns, each
in a process of its own. Memory is that of all its processes together, sampled five times a second:
resident, and without pages of files. Processor seconds, imports included, are what other work on
the machine disturbs least.

Shapes: `file` as it is; `ten_times` repeated, deduplication off; `one_line` repeated up to 300 MB
in one line. Without --text: the documentation that the installation brings.
"""

import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from absl import app, flags
from ml_collections import ConfigDict

from bert_jax.config import default_config
from bert_jax.corpus.build import build_store
from bert_jax.corpus.readers import docstrings
from bert_jax.corpus.settings import from_config
from bert_jax.performance.machine import load, machine, versions

FLAGS = flags.FLAGS
flags.DEFINE_string("text", "", "UTF-8 text, a blank line between documents")
flags.DEFINE_string("language", "en", "ISO 639 code of the text")
flags.DEFINE_enum("shape", "file", ["file", "ten_times", "one_line"], "What is made of the text")
flags.DEFINE_list("sides", [], "Which sides run; default: all for `file`, ours for the others")
flags.DEFINE_integer("rounds", 3, "Turns of each side", lower_bound=1)
flags.DEFINE_integer("workers", 2, "Processes of each side", lower_bound=1)
flags.DEFINE_integer("vocab_size", 8192, "Pieces of the tokenizer")
flags.DEFINE_string("json", "", "Write the figures there")
flags.DEFINE_string("side", "", "Be this side, in the directory --place")
flags.DEFINE_string("place", "", "Where a side works")

PACKAGES = ("bert_jax", "sentencepiece", "sentencex", "datasets", "transformers", "tokenizers")
LINE_BYTES = 300_000_000
TRAINING_BYTES = 2_000_000  # of the text, for the tokenizer


def ours(place: Path, split_sentences: bool) -> float:
    """Seconds from the text to the finished store."""
    config = settings(place / "text.txt")
    config.corpus.split_sentences = split_sentences
    config.tokenizer.path = str(place / "tokenizer")
    start = time.perf_counter()
    build_store(from_config(config), place / "out" / "store")
    return time.perf_counter() - start


def peer(place: Path) -> float:
    """Seconds from the text to the finished file of ids."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        place / "exported", local_files_only=True
    )
    start = time.perf_counter()
    lines = datasets.load_dataset(
        "text",
        data_files=str(place / "text.txt"),
        cache_dir=str(place / "out"),
        split="train",
    )
    lines.map(
        functools.partial(_tokenize, tokenizer),
        batched=True,
        num_proc=FLAGS.workers,
        remove_columns=["text"],
        cache_file_name=str(place / "out" / "ids.arrow"),
    )
    return time.perf_counter() - start


def _tokenize(tokenizer: Callable, batch: dict[str, list]) -> dict[str, list]:
    found = tokenizer(batch["text"], add_special_tokens=False, return_attention_mask=False)
    return {"input_ids": found["input_ids"]}


SIDES: dict[str, Callable[[Path], float]] = {
    "bert_jax": functools.partial(ours, split_sentences=False),
    "bert_jax with sentences": functools.partial(ours, split_sentences=True),
    "datasets + transformers": peer,
}


def settings(text: Path) -> ConfigDict:
    """A config for the text."""
    config = default_config()
    config.corpus.source = f"text:{text}"
    config.corpus.language = FLAGS.language
    config.corpus.workers = FLAGS.workers
    config.corpus.deduplicate = FLAGS.shape == "file"
    config.corpus.heldout_fraction = 0.5 if FLAGS.shape == "one_line" else 0.01
    config.tokenizer.vocab_size = FLAGS.vocab_size
    return config


def make_text(place: Path) -> None:
    """Writes the text that all sides read, and the tokenizer that they use, into `place`."""
    given = place / "given.txt"
    if FLAGS.text:
        shutil.copyfile(FLAGS.text, given)
    else:
        with given.open("w", encoding="utf-8") as file:
            for part in docstrings.list_parts(""):
                for document in part.documents():
                    file.write("\n".join(document) + "\n\n")
    content = given.read_bytes().rstrip(b"\n") + b"\n\n"
    cut = content.find(b"\n\n", min(TRAINING_BYTES, len(content) - 2))
    given.write_bytes(content[: cut + 2])
    config = settings(given)
    config.corpus.heldout_fraction = 0.01
    trained = build_store(from_config(config), place / "trained")
    shutil.copytree(trained.tokenizer_directory, place / "tokenizer")
    with (place / "text.txt").open("wb") as file:
        if FLAGS.shape == "one_line":
            line = content.replace(b"\n", b" ")
            for _ in range(LINE_BYTES // len(line)):
                file.write(line)
        else:
            for _ in range(10 if FLAGS.shape == "ten_times" else 1):
                file.write(content)


def export_tokenizer(place: Path) -> None:
    """Writes the tokenizer as `transformers` loads it."""
    from bert_jax.interop import tokenizers

    (place / "exported").mkdir()
    tokenizers.export(
        place / "tokenizer", place / "exported", max_length=1 << 30, token_types=False
    )


def run_side(side: str, place: Path) -> dict[str, float]:
    """One turn of a side: its seconds, and the peaks of its memory in bytes."""
    shutil.rmtree(place / "out", ignore_errors=True)
    (place / "out").mkdir()
    arguments = [sys.executable, __file__, f"--side={side}", f"--place={place}"]
    for name in ("language", "shape", "workers", "vocab_size"):
        arguments.append(f"--{name}={FLAGS[name].value}")
    resident = anonymous = 0
    before = _processor_seconds()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"USE_TF": "0", "USE_JAX": "0"}  # of no use to the peer, who would load them
    with (place / "said").open("w+") as said:
        process = psutil.Popen(arguments, stdout=said, env=environment)
        while process.poll() is None:
            now = [0, 0]
            for member in [process, *_children(process)]:
                try:
                    memory = member.memory_info()
                except psutil.NoSuchProcess:
                    continue
                now = [now[0] + memory.rss, now[1] + memory.rss - memory.shared]
            resident, anonymous = max(resident, now[0]), max(anonymous, now[1])
            time.sleep(0.2)
        said.seek(0)
        words = said.read().split()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return {
        "seconds": float(words[-1]),
        "processor_seconds": _processor_seconds() - before,
        "resident": resident,
        "anonymous": anonymous,
    }


def _processor_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def summary(side: str, turns: list[dict[str, float]], size: int) -> dict:
    """The figures of a side over all its turns."""
    speeds = [size / 1e6 / turn["seconds"] for turn in turns]
    return {
        "side": side,
        "megabytes_per_second": {"max": max(speeds), "median": statistics.median(speeds)},
        "processor_seconds": min(turn["processor_seconds"] for turn in turns),
        "resident_bytes": max(turn["resident"] for turn in turns),
        "anonymous_bytes": max(turn["anonymous"] for turn in turns),
        "turns": turns,
    }


def main(_: list[str]) -> None:
    """Run the benchmark, or be one of its sides."""
    if FLAGS.side:
        print(SIDES[FLAGS.side](Path(FLAGS.place)))
        return
    sides = FLAGS.sides or list(SIDES)[: 3 if FLAGS.shape == "file" else 2]
    if unknown := set(sides) - set(SIDES):
        raise app.UsageError(f"--sides: {sorted(unknown)}; there are {list(SIDES)}")
    values = {"machine": machine(), "load": load(), "versions": versions(PACKAGES)}
    found = ", ".join(f"{name} {version}" for name, version in values["versions"].items())
    print(f"{values['machine']}, load {values['load']}; {found}")
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        make_text(place)
        if "datasets + transformers" in sides:
            export_tokenizer(place)
        size = (place / "text.txt").stat().st_size
        turns: dict[str, list] = {side: [] for side in sides}
        for _ in range(FLAGS.rounds):
            for side in sides:
                turns[side].append(run_side(side, place))
    results = [summary(side, turns[side], size) for side in sides]
    print(f"{size / 1e6:.1f} MB of text ({FLAGS.shape}), {FLAGS.rounds} turns; load now {load()}")
    head = f"{'MB/s: best':>12}{'median':>9}{'processor s':>13}"
    print(f"{'':26}{head}{'peak MB: resident':>20}{'anonymous':>11}")
    for result in results:
        speed = result["megabytes_per_second"]
        print(
            f"{result['side']:26}{speed['max']:12.1f}{speed['median']:9.1f}"
            f"{result['processor_seconds']:13.1f}"
            f"{result['resident_bytes'] / 1e6:20,.0f}{result['anonymous_bytes'] / 1e6:11,.0f}"
        )
    if FLAGS.json:
        values |= {"bytes": size, "shape": FLAGS.shape, "results": results}
        Path(FLAGS.json).write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
