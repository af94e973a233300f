"""Tags of words: parts of speech, entities (BERT, section 5.3); with a CRF as a choice.

The first piece of a word gets its logits. Entities are learned in IOB2, whatever the data has, and
scored by entity. Long sentences become windows, so that every word gets a tag.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from sklearn import metrics as sklearn_metrics

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.interop.task_heads import TaskHead, label_values
from bert_jax.model import Batch, Params, Totals
from bert_jax.tasks.base import PREDICT, Prediction, Task, TaskSettings
from bert_jax.tasks.data import Record
from bert_jax.tasks.heads import TOKEN, Head, TaskModel
from bert_jax.tasks.labels import ordered, unknown
from bert_jax.tasks.losses import smoothed_cross_entropy
from bert_jax.tasks.rows import IGNORED, RowBuilder, Rows
from bert_jax.tasks.scores.entities import entity_scores, has_entities, to_iob2
from bert_jax.tasks.words import WordEncoder


class Tagging(Task):
    """Cross-entropy of the words' tags, or the likelihood of whole sequences with `crf`."""

    metrics = ("entity_f1", "accuracy", "macro_f1", "entity_precision", "entity_recall")
    options = ("crf", "label_smoothing")

    def __init__(self, settings: TaskSettings):
        super().__init__(settings)
        self.is_entities = False
        if settings.crf and settings.label_smoothing:
            raise UserError(
                f"config.label_smoothing is {settings.label_smoothing}: a CRF learns whole "
                "sequences; set it to 0, or config.crf to False"
            )

    def learn(self, records: Sequence[Record]) -> None:
        tags = {tag for record in records for tag in self._tags(record)}
        self.is_entities = has_entities(tags)
        if self.is_entities:
            tags = {tag for record in records for tag in self.gold(record)}
            # An entity of any type may have several words, also where none in the examples has.
            tags |= {f"I-{tag[2:]}" for tag in tags if tag.startswith("B-")}
        self.labels = ordered(tags)
        if len(self.labels) < 2:
            raise UserError(
                f"config.data.tags={self.settings.data.tags!r} has one class only in "
                f"{self.settings.data.train}: there is nothing to learn"
            )
        if not self.is_entities and self.metric.startswith("entity"):
            if self.settings.metric:
                raise UserError(
                    f"config.metric={self.metric}: the tags mark no entities (B-PER, I-PER, O); "
                    "choose accuracy or macro_f1"
                )
            self.metric = "accuracy"

    def words(self, record: Record) -> list[str]:
        """The words of a sentence; a text is divided at white space.

        Raises:
          UserError: there are none.
        """
        value = record.value(self.settings.data.tokens, "tokens")
        found = value.split() if isinstance(value, str) else list(value or [])
        if not found or not all(isinstance(word, str) and word.strip() for word in found):
            raise UserError(f"{record.where}: the sentence is empty, or one of its words is")
        return found

    def _tags(self, record: Record) -> list[str]:
        value = record.value(self.settings.data.tags, "tags")
        tags = value.split() if isinstance(value, str) else [str(tag) for tag in value]
        if len(tags) != (count := len(self.words(record))):
            raise UserError(
                f"{record.where}: {count} words and {len(tags)} tags: each word needs one tag"
            )
        return tags

    def gold(self, record: Record) -> list[str]:
        tags = self._tags(record)
        return to_iob2(tags) if self.is_entities else tags

    def features(
        self, records: Sequence[Record], tokenizer: Tokenizer, purpose: str = PREDICT
    ) -> Rows:
        encoder = WordEncoder(tokenizer)
        encoder.learn([word for record in records for word in self.words(record)])
        room = self.settings.max_length - 2
        builder = RowBuilder(tokenizer.vocabulary, self.settings.max_length)
        numbers = {label: index for index, label in enumerate(self.labels)}
        for index, record in enumerate(records):
            pieces = [encoder.ids(word)[:room] for word in self.words(record)]
            tags = [0] * len(pieces)
            if purpose != PREDICT:
                gold = self.gold(record)
                if missing := [tag for tag in gold if tag not in numbers]:
                    raise unknown(missing[0], self.labels, record, "tag")
                tags = [numbers[tag] for tag in gold]
            for first, last in word_windows([len(ids) for ids in pieces], room):
                ids = np.concatenate(pieces[first:last])
                labels, words = (np.full(len(ids), IGNORED, np.int32) for _ in range(2))
                begins = np.cumsum([0, *[len(part) for part in pieces[first : last - 1]]])
                labels[begins] = tags[first:last]
                words[begins] = np.arange(first, last)
                builder.add(index, ids, of_token={"labels": labels, "words": words})
        return builder.build({})

    def head(self) -> Any:
        return functools.partial(
            Head,
            kind=TOKEN,
            outputs=len(self.labels),
            rate=self.settings.head_dropout,
            crf=self.settings.crf,
        )

    def counts(self, batch: Batch) -> dict[str, Array]:
        if self.settings.crf:
            return {self.name: batch["weight"].sum()}
        return {self.name: (batch["labels"] != IGNORED).sum().astype(jnp.float32)}

    def totals(self, model: TaskModel, batch: Batch, key: PRNGKeyArray | None) -> dict[str, Totals]:
        head = model.heads[self.name]
        logits = head(model.hidden(batch, key), batch, key)
        is_word = batch["labels"] != IGNORED
        labels = jnp.where(is_word, batch["labels"], 0)
        if self.settings.crf:
            likelihood = head.crf.log_likelihood(logits, labels, is_word)
            return {self.name: Totals(-likelihood.sum(), {}, batch["weight"].sum())}
        weights, smoothing = is_word.astype(jnp.float32), self.settings.label_smoothing
        return {self.name: smoothed_cross_entropy(logits, labels, weights, smoothing)}

    def outputs(self, model: TaskModel, batch: Batch) -> dict[str, Array]:
        head = model.heads[self.name]
        logits = head(model.hidden(batch, None), batch, None)
        shares = jax.nn.softmax(logits)
        tags = (
            head.crf.decode(logits, batch["words"] != IGNORED)
            if self.settings.crf
            else logits.argmax(axis=-1)
        )
        share = jnp.take_along_axis(shares, tags[..., None], axis=-1)[..., 0]
        return {"tags": tags, "share": share, "words": batch["words"], "logits": logits}

    def predictions(
        self, outputs: dict[str, np.ndarray], rows: Rows, records: Sequence[Record]
    ) -> list[Prediction]:
        found: list[Prediction] = [
            {"tokens": self.words(record), "tags": [], "probabilities": []} for record in records
        ]
        lengths = np.diff(rows.offsets)
        for unit, example in enumerate(rows.example):  # the windows of a sentence, in their order
            is_word = outputs["words"][unit, : lengths[unit]] != IGNORED
            for position in np.flatnonzero(is_word):
                found[example]["tags"].append(self.labels[outputs["tags"][unit, position]])
                share = round(float(outputs["share"][unit, position]), 6)
                found[example]["probabilities"].append(share)
        return found

    def constant(self, training: Sequence[Record], records: Sequence[Record]) -> list[Prediction]:
        counts = Counter(tag for record in training for tag in self.gold(record))
        common, number = counts.most_common(1)[0]
        share = number / counts.total()
        return [
            {"tags": [common] * len(words), "probabilities": [share] * len(words), "tokens": words}
            for words in map(self.words, records)
        ]

    def score(
        self, predictions: Sequence[Prediction], records: Sequence[Record]
    ) -> dict[str, float]:
        gold = [self.gold(record) for record in records]
        predicted = [prediction["tags"] for prediction in predictions]
        flat = [[tag for tags in side for tag in tags] for side in (gold, predicted)]
        macro = sklearn_metrics.f1_score(*flat, average="macro", zero_division=0)
        scores = {
            "accuracy": float(sklearn_metrics.accuracy_score(*flat)),
            "macro_f1": float(macro),
        }
        if not self.is_entities:
            return scores
        micro = entity_scores(gold, predicted)["micro"]
        return {
            "entity_f1": micro.f1,
            "entity_precision": micro.precision,
            "entity_recall": micro.recall,
            **scores,
        }

    def confusion(
        self, predictions: Sequence[Prediction], records: Sequence[Record]
    ) -> tuple[list[str], list[str]]:
        gold = [tag for record in records for tag in self.gold(record)]
        return gold, [tag for prediction in predictions for tag in prediction["tags"]]

    def exported(self, head: Params | None) -> tuple[TaskHead, Params | None]:
        """A CRF's transitions stay behind: the class gives the scores of single tags."""
        assert head is not None
        plain = {name: value for name, value in head.items() if name != "crf"}
        return TaskHead("ForTokenClassification", label_values(self.labels)), plain

    def text_of(self, record: Record) -> str:
        return " ".join(self.words(record))

    def answer(self, prediction: Prediction) -> Any:
        return prediction["tags"]

    def contrast(self, prediction: Prediction, record: Record) -> tuple[str, str]:
        """The words with a wrong tag, as `word/TAG`."""
        gold, predicted = self.gold(record), prediction["tags"]
        wrong = [i for i, (a, b) in enumerate(zip(gold, predicted, strict=True)) if a != b]
        words = self.words(record)
        right, other = (
            " ".join(f"{words[i]}/{tags[i]}" for i in wrong) for tags in (gold, predicted)
        )
        return right, other

    def wrongness(self, prediction: Prediction, record: Record) -> float:
        """The number of words with a wrong tag."""
        pairs = zip(self.gold(record), prediction["tags"], strict=True)
        return float(sum(gold != tag for gold, tag in pairs))

    def state(self) -> dict[str, Any]:
        return super().state() | {"is_entities": self.is_entities, "metric": self.metric}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.is_entities, self.metric = state["is_entities"], state["metric"]


def word_windows(lengths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Ranges of whole words that have at most `room` pieces each and follow one another."""
    found, first, size = [], 0, 0
    for index, length in enumerate(lengths):
        if size + length > room:
            found.append((first, index))
            first, size = index, 0
        size += length
    return [*found, (first, len(lengths))]
