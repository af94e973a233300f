"""The fine-tuning of downstream.py in PyTorch: `transformers` on an exported folder.

Classification and tagging as the examples of `transformers` write them: `AutoTokenizer`,
`AutoModelFor...`, AdamW without decay of biases and norms, linear warm-up and decay, gradients
clipped to norm 1. Data, labels, rates and scores are those of the config.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from ml_collections import ConfigDict

from bert_jax.config.finetuning import FinetuneSettings, parse
from bert_jax.interop.load import is_model_folder
from bert_jax.run import exports
from bert_jax.run.pretrained import split_step
from bert_jax.run.workdir import load_run
from bert_jax.tasks import Task
from bert_jax.tasks.batches import CHUNK
from bert_jax.tasks.data import Record, splits
from bert_jax.tasks.rows import IGNORED

Row = dict[str, Any]  # what the model takes of one example, `labels` included
HEADS = {
    "classification": transformers.AutoModelForSequenceClassification,
    "tagging": transformers.AutoModelForTokenClassification,
}


def exported(init: str, folder: Path) -> Path:
    """The folder of an encoder: its own, or the export of a workdir, which is written here."""
    path, step = split_step(init)
    if is_model_folder(path):
        return path
    exports.export(load_run(path, step), folder, exports.Settings(), [])
    return folder


def finetune(config: ConfigDict, folder: Path, seed: int) -> tuple[str, float]:
    """Fine-tune as `config` says, and return the metric and its value on the validation split."""
    settings = parse(config)
    task = settings.tasks[0]
    records = splits(task.settings.data)
    task.learn(records["train"])
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    transformers.set_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = HEADS[config.task].from_pretrained(
        folder,
        num_labels=len(task.labels),
        classifier_dropout=config.head_dropout,
        local_files_only=True,
    )
    rows = rows_of(config.task, task, records["train"], tokenizer)
    train(model, rows, tokenizer, settings, np.random.default_rng(seed))
    predicted = predictions(config.task, task, model, records["validation"], tokenizer)
    return task.metric, task.score(predicted, records["validation"])[task.metric]


def rows_of(kind: str, task: Task, records: Sequence[Record], tokenizer: Any) -> list[Row]:
    """The tokenized examples; the first piece of a word has its tag."""
    if kind == "classification":
        data = task.settings.data
        columns = [column for column in (data.text, data.text_pair) if column]
        found = tokenizer(
            *([record.values[column] for record in records] for column in columns),
            truncation=True,
            max_length=task.settings.max_length,
        )
        labels: list[Any] = [task.labels.index(task.gold(record)) for record in records]
    else:
        words = [record.values["tokens"] for record in records]
        found = tokenizer(words, is_split_into_words=True)
        labels = []
        for index, record in enumerate(records):
            gold = [task.labels.index(tag) for tag in task.gold(record)]
            places = first_pieces(found.word_ids(index))
            of_row = np.full(len(found["input_ids"][index]), IGNORED)
            of_row[list(places)] = [gold[word] for word in places.values()]
            labels.append(of_row)
    return [
        {**{name: found[name][i] for name in found}, "labels": label}
        for i, label in enumerate(labels)
    ]


def first_pieces(words: Sequence[int | None]) -> dict[int, int]:
    """The place of each word's first piece, and the word."""
    return {
        at: word
        for at, word in enumerate(words)
        if word is not None and (at == 0 or words[at - 1] != word)
    }


def batch_of(rows: Sequence[Row], tokenizer: Any) -> dict[str, torch.Tensor]:
    """The rows, padded to the longest one."""
    labels = [row["labels"] for row in rows]
    inputs = [{name: row[name] for name in row if name != "labels"} for row in rows]
    batch = dict(tokenizer.pad(inputs, return_tensors="pt"))
    if np.ndim(labels[0]):
        length = batch["input_ids"].shape[1]
        labels = [np.pad(each, (0, length - len(each)), constant_values=IGNORED) for each in labels]
    return batch | {"labels": torch.tensor(np.array(labels), dtype=torch.long)}


def batches(rows: Sequence[Row], size: int, random: np.random.Generator) -> Iterator[Sequence[Row]]:
    """An epoch: chunks of the shuffled rows are sorted by length, and the batches shuffled."""
    order = random.permutation(len(rows))
    found = []
    for start in range(0, len(order), CHUNK * size):
        chunk = sorted(order[start : start + CHUNK * size], key=lambda i: len(rows[i]["input_ids"]))
        found += [chunk[at : at + size] for at in range(0, len(chunk), size)]
    for index in random.permutation(len(found)):
        yield [rows[i] for i in found[index]]


def train(
    model: Any,
    rows: Sequence[Row],
    tokenizer: Any,
    settings: FinetuneSettings,
    random: np.random.Generator,
) -> None:
    steps = round(settings.epochs * -(-len(rows) // settings.batch_size))
    fields = settings.optimizer
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(fields["b1"], fields["b2"]),
        eps=fields["epsilon"],
        weight_decay=fields["weight_decay"],
    )
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, int(settings.warmup_fraction * steps), steps
    )
    model.train()
    done = 0
    while done < steps:
        for batch in batches(rows, settings.batch_size, random):
            if done == steps:
                break
            optimizer.zero_grad()
            model(**batch_of(batch, tokenizer)).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), fields["clip_norm"])
            optimizer.step()
            schedule.step()
            done += 1


@torch.no_grad()
def predictions(
    kind: str, task: Task, model: Any, records: Sequence[Record], tokenizer: Any
) -> list[dict[str, Any]]:
    """As `task.score` takes them; a word without a piece gets the first label."""
    model.eval()
    rows = rows_of(kind, task, records, tokenizer)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    found: list[dict[str, Any]] = [{} for _ in rows]
    for start in range(0, len(order), 32):
        chosen = order[start : start + 32]
        logits = model(**batch_of([rows[i] for i in chosen], tokenizer)).logits
        for index, classes in zip(chosen, logits.argmax(dim=-1).numpy(), strict=True):
            if kind == "classification":
                found[index] = {"label": task.labels[int(classes)]}
                continue
            tags = [task.labels[0]] * len(records[index].values["tokens"])
            encoded = tokenizer(records[index].values["tokens"], is_split_into_words=True)
            for at, word in first_pieces(encoded.word_ids()).items():
                tags[word] = task.labels[int(classes[at])]
            found[index] = {"tags": tags}
    return found
