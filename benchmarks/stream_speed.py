"""Speed of the example stream, beside Hugging Face's collator on the same tokens.

    python benchmarks/stream_speed.py --store=runs/quickstart/corpus [--small=OTHER] [--json=FILE]

Measures sequences a second of the stream as training reads it (tf.data, one thread) and of
`transformers.DataCollatorForLanguageModeling` fed by a `torch` DataLoader with 2 workers, in turns;
then the time to the first batch at step 0 and at step 10**9, and the most memory beside the store's
pages over an epoch, in a process of its own, for this store and for a smaller one (`--small`). The
peer masks ready rows of ids: no packing, no pairs, no sentences are asked of it.
"""

import concurrent.futures
import itertools
import json
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from absl import flags
from ml_collections import ConfigDict

from bert_jax.common import command_line, memory
from bert_jax.config import default_config, parse
from bert_jax.corpus.store import TokenStore
from bert_jax.performance.machine import load, machine, versions
from bert_jax.stream import pipeline
from bert_jax.stream.batches import TrainBatches, all_rows
from bert_jax.stream.settings import OBJECTIVES

FLAGS = flags.FLAGS
WORKERS = 2  # of the peer; the stream has one thread
ROUNDS = 5
# Batches before the clock starts: while the peer has its turn, the stream gets three groups of
# eight ready, beside the one that is read.
WARM_UP, PEER_WARM_UP = 40, 10
PACKAGES = ("bert_jax", "numpy", "tensorflow-cpu", "torch", "transformers", "tokenizers")
FAR = 10**9
CASES = [
    # objective, unit, sequence length, batch size, sequences/s to reach
    ("packed", "token", 128, 256, 200_000),
    ("packed", "token", 512, 64, 50_000),
    ("packed", "word", 128, 256, None),
    ("packed", "span", 128, 256, None),
    ("nsp", "token", 128, 256, None),
    ("nsp", "word", 128, 256, 60_000),
    ("nsp", "word", 512, 64, 15_000),
]


def main() -> None:
    """Run the benchmark."""
    memory.keep_freed_memory()
    warnings.filterwarnings("ignore")
    store = TokenStore.open(FLAGS.store)
    config = default_config()
    config.total_steps = 2 * FAR
    num_tokens = store.split("train").num_tokens
    print(f"{num_tokens:,} tokens, {len(store.split('train').shards)} shards")
    report: dict[str, Any] = {
        "machine": machine(),
        "load": load(),
        "versions": versions(PACKAGES),
        "tokens": num_tokens,
    }
    found = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    print(f"{report['machine']}, load {report['load']}; {found}")
    print(f"{'':34}{'sequences/s':>14}{'peer':>10}{'ratio':>8}{'aim':>10}")
    results = []
    for objective, unit, length, batch_size, aim in CASES:
        config.stream.objective, config.stream.mask_unit = objective, unit
        config.stream.sequence_length, config.global_batch_size = length, batch_size
        rows = [own_rounds(store, config), peer_rounds(store, config)]
        # In turns, so that both see the same machine.
        rates = [[next(rounds) for rounds in rows] for _ in range(ROUNDS)]
        own, peer = (statistics.median(column) for column in zip(*rates, strict=True))
        name = f"{objective}, {unit}, {length} x {batch_size}"
        reached = f"{aim:,}" if aim else ""
        print(f"{name:34}{own:14,.0f}{peer:10,.0f}{own / peer:8.1f}{reached:>10}", flush=True)
        results.append({"case": name, "sequences_per_second": own, "peer": peer, "rounds": rates})
    seek = first_batch(store, config)
    print(f"first batch: {seek[0]:.3f} s at step 0, {seek[FAR]:.3f} s at step 10**9")
    peaks = {
        directory: {
            objective: alone(anonymous_memory, directory, objective) for objective in OBJECTIVES
        }
        for directory in filter(None, (FLAGS.small, FLAGS.store))
    }
    for directory, sizes in peaks.items():
        text = ", ".join(f"{objective} {size / 1e6:.1f} MB" for objective, size in sizes.items())
        print(f"memory beside the pages of {directory}: {text}")
    report |= {
        "cases": results,
        "first_batch_seconds": seek,
        "memory": peaks,
        "load_after": load(),
    }
    print(f"load now {report['load_after']}")
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(report, indent=2) + "\n")


def rate(batches: Iterator, batch_size: int, seconds: float = 1.5) -> float:
    """Sequences a second over `seconds`."""
    count, begin = 0, time.perf_counter()
    while time.perf_counter() < begin + seconds:
        next(batches)
        count += 1
    return count * batch_size / (time.perf_counter() - begin)


def own_rounds(store: TokenStore, config: ConfigDict) -> Iterator[float]:
    """Rates of the stream."""
    stream = TrainBatches(store, parse(config).stream)
    batches = pipeline.train_batches(stream, 0, FAR, all_rows)
    while True:
        list(itertools.islice(batches, WARM_UP))
        yield rate(batches, config.global_batch_size)


def peer_rounds(store: TokenStore, config: ConfigDict) -> Iterator[float]:
    """Rates of Hugging Face's collator on ready rows of the same tokens."""
    vocabulary, unit = store.vocabulary, config.stream.mask_unit
    words = tokenizers.models.WordLevel({str(i): i for i in range(vocabulary.size)}, unk_token="1")
    collator = transformers.DataCollatorForLanguageModeling(
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizers.Tokenizer(words),
            mask_token=str(vocabulary.mask_id),
            pad_token=str(vocabulary.pad_id),
        ),
        whole_word_mask=unit == "word",
        mlm_probability=config.stream.mask_rate,
    )
    rows = ReadyRows(store, config.stream.sequence_length, with_words=unit == "word")
    batch_size = config.global_batch_size
    sampler = torch.utils.data.RandomSampler(rows, replacement=True, num_samples=10**7)
    while True:
        # Its workers run ahead and end with the round, so that they do not disturb the other's.
        batches = iter(
            torch.utils.data.DataLoader(
                rows, batch_size, sampler=sampler, num_workers=WORKERS, collate_fn=collator
            )
        )
        list(itertools.islice(batches, PEER_WARM_UP))
        yield rate(batches, batch_size)
        del batches


class ReadyRows(torch.utils.data.Dataset):
    """Rows of ids as `run_mlm.py` prepares them: cut beforehand, special tokens marked."""

    def __init__(self, store: TokenStore, length: int, with_words: bool):
        """Cuts the first tokens of the store into rows."""
        vocabulary = store.vocabulary
        tokens = np.asarray(store.split("train").shards[0].tokens)[:1_000_000]
        ids = tokens[: len(tokens) // length * length].reshape(-1, length).astype(np.int64)
        special = vocabulary.is_special[ids].astype(np.int64)
        self._fields = {"input_ids": ids, "special_tokens_mask": special}
        if with_words:
            # A word begins where a token does not start at the end of the one before.
            end = 2 * np.arange(1, length + 1) + np.zeros_like(ids)
            start = 2 * np.arange(length) + vocabulary.starts_word[ids]
            self._fields["offset_mapping"] = np.stack([start, end], axis=2)
        self._fields = {name: array.tolist() for name, array in self._fields.items()}

    def __len__(self) -> int:
        return len(self._fields["input_ids"])

    def __getitem__(self, index: int) -> dict:
        return {name: rows[index] for name, rows in self._fields.items()}


def first_batch(store: TokenStore, config: ConfigDict) -> dict[int, float]:
    """Seconds from the call to the first batch, by the step that is joined."""
    seconds = {}
    for step in (0, FAR):
        times = []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            stream = TrainBatches(store, parse(config).stream)
            next(pipeline.train_batches(stream, step, step + 1000, all_rows))
            times.append(time.perf_counter() - begin)
        seconds[step] = statistics.median(times)
    return seconds


def alone(measure: Callable[..., int], *arguments: str) -> int:
    """What a function finds in a process that has done nothing else."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as process:
        return process.submit(measure, *arguments).result()


def anonymous_memory(directory: str, objective: str) -> int:
    """The most bytes that the stream needs while it reads an epoch, memory maps left out."""
    config = default_config()
    config.total_steps = FAR
    config.stream.objective, config.stream.sequence_length = objective, 512
    config.global_batch_size = 64
    before = _anonymous_bytes()
    settings = parse(config).stream
    batches = TrainBatches(TokenStore.open(directory), settings)
    most = _anonymous_bytes()
    for step in range(batches.num_examples(settings.phases[0]) // config.global_batch_size):
        batches.batch(step)
        most = max(most, _anonymous_bytes())
    return most - before


def _anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


if __name__ == "__main__":
    flags.DEFINE_string("store", None, "A token store", required=True)
    flags.DEFINE_string("small", None, "A smaller token store, for its memory beside the other's")
    flags.DEFINE_string("json", None, "File for the figures")
    command_line.run(main)
