"""The interface of a task: data -> features -> head -> loss -> metrics -> predictions.

One file a task. Fine-tuning, prediction and the export know only this interface. To add a task,
write a subclass and register it in `TASKS` (`__init__.py`).
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.interop.task_heads import TaskHead
from bert_jax.model import Batch, ModelConfig, Params, Totals
from bert_jax.tasks.data import DataSettings, Record
from bert_jax.tasks.heads import TaskModel
from bert_jax.tasks.rows import Rows
from bert_jax.training.objectives import StepObjective

TRAIN, EVALUATE, PREDICT = "train", "evaluate", "predict"  # what rows are made for
Prediction = dict[str, Any]  # a line of predictions.jsonl
# Settings that only some tasks have.
OPTIONS = (
    "stride",
    "label_smoothing",
    "class_weights",
    "crf",
    "similarity",
    "pooling",
    "temperature",
    "max_answer_length",
    "n_best",
)


@dataclasses.dataclass(frozen=True)
class TaskSettings:
    """What a task is made of; the fields of the config with the same names.

    Attributes:
      name: of the head, and in the last line of the output.
    """

    name: str
    data: DataSettings
    metric: str
    max_length: int
    stride: int
    head_dropout: float
    label_smoothing: float
    class_weights: str
    crf: bool
    similarity: str
    pooling: str
    temperature: float
    max_answer_length: int
    n_best: int


class Task(StepObjective):
    """One task with its head.

    Attributes:
      metric: that chooses the best checkpoint; higher is better.
      labels: of the outputs, in order; empty where there are none.
      together: all tasks of the run, whose heads the model has; empty: this one alone.
    """

    rows = "padded"
    metrics: tuple[str, ...]  # the names in `score`; the first one is the default
    options: tuple[str, ...] = ()  # the settings in `OPTIONS` that it has
    in_batch = False  # whether the loss of a row depends on the other rows of its batch

    def __init__(self, settings: TaskSettings):
        """Raises:
        UserError: a setting is not one of this task's.
        """
        self.settings = settings
        self.name = settings.name
        self.metric = settings.metric or self.metrics[0]
        self.labels: list[str] = []
        self.loss_weights = {self.name: 1.0}
        self.together: tuple[Task, ...] = ()

    def learn(self, records: Sequence[Record]) -> None:
        """Find the labels in the training examples.

        Raises:
          UserError: they cannot be learned from.
        """

    def state(self) -> dict[str, Any]:
        """What `learn` and `calibrate` found, as JSON values."""
        return {"labels": self.labels}

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` gave."""
        self.labels = list(state["labels"])

    @abc.abstractmethod
    def features(
        self, records: Sequence[Record], tokenizer: Tokenizer, purpose: str = PREDICT
    ) -> Rows:
        """The tokenized rows of examples.

        Args:
          records: the examples.
          tokenizer: of the encoder.
          purpose: `TRAIN`, `EVALUATE`, with labels, or `PREDICT`, without.

        Raises:
          UserError: an example is not usable; the message says where it is.
        """

    @abc.abstractmethod
    def head(self) -> Any:
        """A function of (config, rngs=...) that makes the head; None: the task needs none."""

    def build(self, config: ModelConfig, *, rngs: Any) -> TaskModel:
        heads = {task.name: task.head() for task in self.together or (self,)}
        return TaskModel(config, heads, rngs=rngs)

    @property
    def idle(self) -> str:
        """The heads of the other tasks."""
        others = [task.name for task in self.together if task is not self]
        return rf"heads\.({'|'.join(others)})\..*" if others else ""

    def counts(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        return {self.name: batch["weight"].sum()}

    @abc.abstractmethod
    def totals(
        self, model: TaskModel, batch: Batch, key: PRNGKeyArray | None
    ) -> dict[str, Totals]: ...

    @abc.abstractmethod
    def outputs(self, model: TaskModel, batch: Batch) -> dict[str, Array]:
        """What predictions are made of, computed on the device: arrays [B, ...]."""

    @abc.abstractmethod
    def predictions(
        self, outputs: dict[str, np.ndarray], rows: Rows, records: Sequence[Record]
    ) -> list[Prediction]:
        """A prediction for each example, from the outputs of its units, in their order."""

    @abc.abstractmethod
    def score(
        self, predictions: Sequence[Prediction], records: Sequence[Record]
    ) -> dict[str, float]:
        """The metrics of predictions, by name."""

    @abc.abstractmethod
    def constant(self, training: Sequence[Record], records: Sequence[Record]) -> list[Prediction]:
        """Predictions that do not look at the example: the majority class, the mean, nothing."""

    def calibrate(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> None:
        """Choose thresholds on the validation split."""

    def exported(self, head: Params | None) -> tuple[TaskHead, Params | None] | None:
        """The head as a class of `transformers` has it, and its parameters; None: none does."""
        return None

    def gold(self, record: Record) -> Any:
        """The right answer of an example, as in predictions.jsonl."""
        return None

    def exported_logits(self, logits: np.ndarray) -> np.ndarray:
        """Our logits as the exported folder gives them."""
        return logits

    def text_of(self, record: Record) -> str:
        """The example as a reader of the report sees it."""
        data = self.settings.data
        columns = [name for name in (data.text, data.text_pair) if name]
        return " | ".join(str(record.values.get(name, "")) for name in columns)

    def cut_note(self, cut: int, count: int, split: str) -> str:
        """Says how many of `count` examples have a text that was cut, and what can be done."""
        can_divide = "stride" in self.options and not self.settings.stride
        windows = ", or divide them into windows with config.stride" if can_divide else ""
        return (
            f"{self.name}: {cut:,} of {count:,} examples of {split} ({cut / count:.1%}) are longer "
            f"than config.max_length={self.settings.max_length} tokens and are cut: raise it"
            f"{windows}"
        )

    def answer(self, prediction: Prediction) -> Any:
        """What was predicted, without probabilities."""
        return prediction.get("label", prediction.get("score"))

    def contrast(self, prediction: Prediction, record: Record) -> tuple[Any, Any]:
        """What is right and what was predicted, as a reader of the report sees it."""
        return self.gold(record), self.answer(prediction)

    def wrongness(self, prediction: Prediction, record: Record) -> float:
        """How wrong a prediction is, for a list of the worst; 0: it is right."""
        gold, answer = self.gold(record), self.answer(prediction)
        if gold == answer:
            return 0.0
        if isinstance(answer, float):
            return abs(answer - gold)
        shares = prediction.get("probabilities", {})
        return float(shares.get(answer, 1.0)) if isinstance(answer, str) else 1.0

    def confusion(
        self, predictions: Sequence[Prediction], records: Sequence[Record]
    ) -> tuple[list[str], list[str]] | None:
        """Right and predicted labels side by side, for the report; None: no classes."""
        return None
