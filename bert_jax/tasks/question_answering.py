"""Extractive question answering (BERT, sections 4.2 and 4.3): SQuAD 1.1, and 2.0's no-answer.

A row is `[CLS] question [SEP] window of the context [SEP]`; long contexts become windows that
overlap by `stride` tokens. The answer is the span with the highest start + end logit over all
windows; no answer is [CLS].
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.interop.task_heads import TaskHead
from bert_jax.model import Batch, Params, Totals
from bert_jax.tasks.base import PREDICT, Prediction, Task, TaskSettings
from bert_jax.tasks.data import Record
from bert_jax.tasks.heads import TOKEN, Head, TaskModel
from bert_jax.tasks.rows import IGNORED, RowBuilder, Rows, windows
from bert_jax.tasks.scores.answers import exact_match, f1
from bert_jax.tasks.words import WordEncoder, words_of

DEFAULT_STRIDE = 64
NO_SPAN = 1e9  # the margin of no answer where no span fits
MAX_QUESTION = 64  # tokens; longer questions are cut, as BERT's


class Answer(NamedTuple):
    """A span of the context, in characters; (0, 0): none."""

    start: int
    end: int
    score: float


class QuestionAnswering(Task):
    """The cross-entropy of start and end, averaged."""

    metrics = ("f1", "exact_match")
    options = ("stride", "max_answer_length", "n_best")

    def __init__(self, settings: TaskSettings):
        super().__init__(settings)
        self.has_no_answers = False
        self.threshold = 0.0  # of the score of no answer, minus that of the best span

    def learn(self, records: Sequence[Record]) -> None:
        self.has_no_answers = any(not self.gold(record) for record in records)
        if all(not self.gold(record) for record in records):
            raise UserError(f"{self.settings.data.train}: no question has an answer")

    def gold(self, record: Record) -> list[str]:
        return [text for text, _ in answers_of(record)]

    def features(
        self, records: Sequence[Record], tokenizer: Tokenizer, purpose: str = PREDICT
    ) -> Rows:
        questions = tokenizer.encode([record.text("question", "text") for record in records])
        contexts = {record.text("context", "text_pair"): None for record in records}
        encoder = WordEncoder(tokenizer)
        encoder.learn([word for context in contexts for word, _ in words_of(context)])
        pieces = functools.lru_cache(maxsize=64)(functools.partial(_pieces, encoder))
        builder = RowBuilder(tokenizer.vocabulary, self.settings.max_length)
        stride = self.settings.stride or DEFAULT_STRIDE
        for index, record in enumerate(records):
            question = questions[index][: min(MAX_QUESTION, self.settings.max_length // 2)]
            ids, starts, ends = pieces(record.values["context"])
            room = self.settings.max_length - len(question) - 3
            span = self._span(record, starts, ends) if purpose != PREDICT else None
            for part in windows(len(ids), room, stride):
                of_token = {
                    "begin": np.concatenate([np.full(len(question), IGNORED), starts[part]]),
                    "end": np.concatenate([np.full(len(question), IGNORED), ends[part]]),
                }
                builder.add(index, question, ids[part], of_token)
                if purpose != PREDICT:
                    builder.label(answer=_in_window(span, part, len(question) + 2))
        return builder.build({"answer": np.int32})

    def _span(self, record: Record, starts: np.ndarray, ends: np.ndarray) -> tuple[int, int] | None:
        """The first and last piece of the first answer; None: it has none."""
        answers = answers_of(record)
        if not answers:
            return None
        text, at = answers[0]
        inside = np.flatnonzero((ends > at) & (starts < at + len(text)))
        return (int(inside[0]), int(inside[-1])) if len(inside) else None

    def head(self) -> Any:
        return functools.partial(Head, kind=TOKEN, outputs=2, rate=self.settings.head_dropout)

    def _logits(self, model: TaskModel, batch: Batch, key: PRNGKeyArray | None) -> Array:
        return model.heads[self.name](model.hidden(batch, key), batch, key)

    def totals(self, model: TaskModel, batch: Batch, key: PRNGKeyArray | None) -> dict[str, Totals]:
        logits = self._logits(model, batch, key)
        is_text = (batch["segment_ids"] > 0)[..., None]
        logs = jax.nn.log_softmax(jnp.where(is_text, logits, -1e9), axis=1)
        of_answer = jnp.take_along_axis(logs, batch["answer"][:, None, :], axis=1)[:, 0]
        loss = -of_answer.mean(axis=1)
        right = (of_answer >= logs.max(axis=1)).all(axis=1)
        weight = batch["weight"]
        metrics = {"accuracy": (right * weight).sum()}
        return {self.name: Totals((loss * weight).sum(), metrics, weight.sum())}

    def outputs(self, model: TaskModel, batch: Batch) -> dict[str, Array]:
        """The best starts and ends of each row, chosen on the device."""
        logits = self._logits(model, batch, None)
        in_context = (batch["begin"] != IGNORED)[..., None]
        masked = jnp.where(in_context, logits, -1e9)
        count = min(self.settings.n_best, logits.shape[1])
        found = {"null": logits[:, 0].sum(axis=-1), "logits": logits}
        for number, name in enumerate(("start", "end")):
            scores, at = jax.lax.top_k(masked[..., number], count)
            pad = [(0, 0), (0, self.settings.n_best - count)]
            found[f"{name}_score"] = jnp.pad(scores, pad, constant_values=-1e9)
            found[f"{name}_at"] = jnp.pad(at, pad)
        return found

    def predictions(
        self, outputs: dict[str, np.ndarray], rows: Rows, records: Sequence[Record]
    ) -> list[Prediction]:
        candidates: list[list[Answer]] = [[] for _ in records]
        null = np.full(len(records), np.inf)
        for unit, example in enumerate(rows.example):
            candidates[example] += self._answers(outputs, rows, unit)
            null[example] = min(null[example], float(outputs["null"][unit]))
        return [
            self._prediction(record, found, float(none))
            for record, found, none in zip(records, candidates, null, strict=True)
        ]

    def _answers(self, outputs: dict[str, np.ndarray], rows: Rows, unit: int) -> list[Answer]:
        offset = rows.offsets[unit]
        starts, ends = outputs["start_at"][unit], outputs["end_at"][unit]
        length = ends[None, :] - starts[:, None]
        scores = outputs["start_score"][unit][:, None] + outputs["end_score"][unit][None, :]
        fits = (length >= 0) & (length < self.settings.max_answer_length) & (scores > -1e8)
        scores = np.where(fits, scores, -np.inf)
        best = np.argsort(-scores, axis=None, kind="stable")[: self.settings.n_best]
        found = []
        for first, last in zip(*np.unravel_index(best, scores.shape), strict=True):
            if np.isfinite(scores[first, last]):
                begin = rows.of_token["begin"][offset + starts[first]]
                end = rows.of_token["end"][offset + ends[last]]
                found.append(Answer(int(begin), int(end), float(scores[first, last])))
        return found

    def _prediction(self, record: Record, found: list[Answer], null: float) -> Prediction:
        distinct: dict[tuple[int, int], Answer] = {}
        for answer in sorted(found, key=lambda answer: -answer.score):
            distinct.setdefault((answer.start, answer.end), answer)
        best = list(distinct.values())[: self.settings.n_best]
        scores = np.array([answer.score for answer in best] + [null] * self.has_no_answers)
        shares = np.exp(scores - scores.max()) if len(scores) else scores
        context = record.values["context"]
        listed = [
            {"text": context[answer.start : answer.end], "probability": float(share)}
            for answer, share in zip(best, shares / shares.sum(), strict=False)
        ]
        margin = null - best[0].score if best else NO_SPAN
        is_none = self.has_no_answers and margin > self.threshold
        return {
            "answer": "" if is_none or not listed else listed[0]["text"],
            "probability": float(shares[-1] / shares.sum()) if is_none else None,
            "no_answer_margin": float(margin) if self.has_no_answers else None,
            "n_best": listed,
        } | ({} if is_none or not listed else {"probability": listed[0]["probability"]})

    def calibrate(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> None:
        """The threshold of no answer with the best F1, as SQuAD 2.0's script finds it."""
        if not self.has_no_answers:
            return
        margins = np.array([p["no_answer_margin"] for p in predictions])
        texts = [p["n_best"][0]["text"] if p["n_best"] else "" for p in predictions]
        golds = [self.gold(record) for record in records]
        of_text = np.array([f1(text, gold) for text, gold in zip(texts, golds, strict=True)])
        of_none = np.array([float(not gold) for gold in golds])
        candidates = [-np.inf, *np.sort(margins)]
        scores = [np.where(margins > c, of_none, of_text).mean() for c in candidates]
        best = float(candidates[int(np.argmax(scores))])
        self.threshold = best if np.isfinite(best) else -1e9

    def constant(self, training: Sequence[Record], records: Sequence[Record]) -> list[Prediction]:
        """No answer where the data has some without; else the first word of the context."""
        answers = ["" if self.has_no_answers else r.values["context"].split()[0] for r in records]
        return [{"answer": answer, "n_best": []} for answer in answers]

    def score(
        self, predictions: Sequence[Prediction], records: Sequence[Record]
    ) -> dict[str, float]:
        pairs = [
            (prediction["answer"], self.gold(record))
            for prediction, record in zip(predictions, records, strict=True)
        ]
        scores = {
            "f1": float(np.mean([f1(*pair) for pair in pairs])),
            "exact_match": float(np.mean([exact_match(*pair) for pair in pairs])),
        }
        for name, part in (
            ("answered", [pair for pair in pairs if pair[1]]),
            ("unanswered", [pair for pair in pairs if not pair[1]]),
        ):
            if self.has_no_answers and part:
                scores[f"f1_{name}"] = float(np.mean([f1(*pair) for pair in part]))
        return scores

    def exported(self, head: Params | None) -> tuple[TaskHead, Params | None]:
        assert head is not None
        return TaskHead("ForQuestionAnswering", {}, classifier=self._name(head)), head

    def _name(self, head: Params) -> str:
        return "classifier" if "norm" in head else "qa_outputs"

    def text_of(self, record: Record) -> str:
        return f"{record.values['question']} | {record.values['context']}"

    def answer(self, prediction: Prediction) -> Any:
        return prediction["answer"]

    def wrongness(self, prediction: Prediction, record: Record) -> float:
        share = prediction.get("probability") or 0.0
        return (1.0 - f1(prediction["answer"], self.gold(record))) * share

    def state(self) -> dict[str, Any]:
        return super().state() | {
            "has_no_answers": self.has_no_answers,
            "threshold": self.threshold,
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.has_no_answers, self.threshold = state["has_no_answers"], state["threshold"]


def answers_of(record: Record) -> list[tuple[str, int]]:
    """The answers to a question and where each begins in the context, in characters.

    They are pairs, or as in tables of `datasets` an object with the lists `text` and
    `answer_start`.

    Raises:
      UserError: they are something else, or not in the context where they say.
    """
    given = record.values.get("answers") or []
    try:
        if isinstance(given, Mapping):
            given = zip(given["text"], given["answer_start"], strict=True)
        found = [(str(text), int(start)) for text, start in given]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{record.where}: 'answers' holds no pairs of a text and its start, and no lists "
            f"'text' and 'answer_start' ({error})"
        ) from error
    for text, start in found:
        if not record.text("context", "text_pair").startswith(text, start):
            raise UserError(
                f"{record.where}: the answer {text!r} is not in its context at character {start}: "
                "fix or remove it"
            )
    return found


def _pieces(encoder: WordEncoder, context: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ids of a context, and where each piece begins and ends in it, in characters."""
    ids, starts, ends = [], [], []
    for word, at in words_of(context):
        begins = encoder.starts(word)
        is_whole = len(begins) > 1 and not any(begins)  # the pieces' places are not known
        stops = [len(word)] * len(begins) if is_whole else [*begins[1:], len(word)]
        ids.append(encoder.ids(word))
        starts += [at + begin for begin in begins]
        ends += [at + stop for stop in stops]
    return np.concatenate(ids), np.array(starts, np.int32), np.array(ends, np.int32)


def _in_window(span: tuple[int, int] | None, part: slice, shift: int) -> tuple[int, int]:
    """First and last token of the answer in a row; (0, 0), [CLS], where it is not wholly in it."""
    if span is None or span[0] < part.start or span[1] >= part.stop:
        return 0, 0
    return span[0] - part.start + shift, span[1] - part.start + shift
