"""Probes in pretraining: what the encoder is worth on a task every `config.probe.every` steps.

* `frozen`, for texts with a class or a number: a logistic regression (a ridge regression for
  numbers) is fitted on the mean of the tokens' hidden states, for the cost of one forward pass over
  the examples.
* `frozen`, for the other tasks: a new head is trained on the encoder, which stays as it is.
* `finetune`: a copy of the encoder is trained under a new head.

The run itself is not changed by it.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from bert_jax.common.errors import UserError
from bert_jax.config import ProbeSettings, RunSettings
from bert_jax.config.finetuning import FinetuneSettings, default_config, parse
from bert_jax.corpus.store import TokenStore
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.model import Batch, Bert, ModelConfig, Params
from bert_jax.tasks import TASKS, Task
from bert_jax.tasks.base import EVALUATE
from bert_jax.tasks.batches import RowBatches
from bert_jax.tasks.data import Record, splits
from bert_jax.tasks.evaluation import compile_forward, jitted, outputs_of_rows, place, predict
from bert_jax.tasks.heads import pooled
from bert_jax.tasks.parameters import rate_factors, starting_params
from bert_jax.tasks.rows import Rows
from bert_jax.tasks.text import mean_of_units
from bert_jax.training.settings import MeshSettings, TrainingSettings
from bert_jax.training.step import compile_steps

FITTED = ("classification", "regression")  # tasks whose frozen probe is fitted in closed form
ROWS = 32  # of a batch, a device
DATA = ("train", "validation", "text", "text_pair", "label", "tokens", "tags", "limit")


class Probe(abc.ABC):
    """The labelled examples of a probe, tokenized once."""

    def __init__(self, task: Task, tokenizer: Tokenizer, mesh: Mesh, seed: int):
        """Raises:
        UserError: the data cannot be read, or its labels cannot be learned.
        """
        self._task, self._mesh, self._seed = task, mesh, seed
        self._records: dict[str, list[Record]] = splits(task.settings.data)
        task.learn(self._records["train"])
        self._rows: dict[str, Rows] = {
            split: task.features(records, tokenizer, EVALUATE)
            for split, records in self._records.items()
        }
        self._batches = {
            split: RowBatches(rows, tokenizer.vocabulary, ROWS * mesh.size, seed, shapes=2)
            for split, rows in self._rows.items()
        }

    @abc.abstractmethod
    def scores(self, params: Params) -> dict[str, float]:
        """Learn the training examples from the encoder in `params`, score on the validation ones.

        Args:
          params: of the pretraining, which stay as they are.

        Returns:
          The scores by metric.
        """


class FittedProbe(Probe):
    """A logistic or ridge regression on features of the frozen encoder."""

    def __init__(self, task: Task, model: ModelConfig, tokenizer: Tokenizer, mesh: Mesh, seed: int):
        """Raises:
        UserError: as `Probe`.
        """
        super().__init__(task, tokenizer, mesh, seed)
        self._forward = jitted(_mean_hidden, model, Bert, mesh)

    def scores(self, params: Params) -> dict[str, float]:
        # Takes a second to import, and only runs with a probe need it.
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        features = {split: self._features(params, split) for split in ("train", "validation")}
        labels = self._rows["train"].of_unit["labels"]
        of_examples = labels[np.unique(self._rows["train"].example, return_index=True)[1]]
        records = self._records["validation"]
        if not self._task.labels:
            fit = make_pipeline(StandardScaler(), Ridge(alpha=10.0))
            values = fit.fit(features["train"], of_examples).predict(features["validation"])
            outputs = {"logits": values[:, None]}
        else:
            fit = make_pipeline(
                StandardScaler(), LogisticRegression(C=0.1, max_iter=500, random_state=self._seed)
            )
            fit.fit(features["train"], of_examples)
            outputs = {"logits": fit.predict_log_proba(features["validation"])}
        units = self._rows["validation"]
        expanded = {name: array[units.example] for name, array in outputs.items()}
        return self._task.score(self._task.predictions(expanded, units, records), records)

    def _features(self, params: Params, split: str) -> Float[np.ndarray, "examples D"]:
        found = outputs_of_rows(self._forward, params, self._batches[split], self._mesh)
        return mean_of_units(found["features"], self._rows[split], len(self._records[split]))


class TrainedProbe(Probe):
    """A short fine-tuning: of a new head alone, or of a copy of the encoder with it."""

    def __init__(
        self,
        settings: FinetuneSettings,
        model: ModelConfig,
        tokenizer: Tokenizer,
        mesh: Mesh,
        mesh_settings: MeshSettings,
    ):
        """Raises:
        UserError: as `Probe`, or the task cannot be learned with this encoder.
        """
        task = settings.tasks[0]
        task.check_model(model)
        super().__init__(task, tokenizer, mesh, settings.seed)
        size = -(-settings.batch_size // mesh.size) * mesh.size
        vocabulary = tokenizer.vocabulary
        self._training = RowBatches(self._rows["train"], vocabulary, size, settings.seed, shapes=2)
        self._count = settings.total_steps
        optimizer = settings.optimizer_settings(self._count, model)
        rates = rate_factors(model, head=1.0, layer_decay=1.0, freeze=settings.freeze)
        optimizer = dataclasses.replace(optimizer, rates=rates)
        training = TrainingSettings(settings.seed, task, optimizer, mesh_settings)
        self._steps = compile_steps(training, model, mesh)
        self._forward = compile_forward(task, model, mesh)

    def scores(self, params: Params) -> dict[str, float]:
        state = self._steps.init()
        copy = jax.tree.map(jnp.copy, params)  # the train step takes over the buffers of its state
        state.params = starting_params(state.params, copy)
        for step in range(self._count):
            batch = place(self._mesh, self._training.at(step))
            state, _ = self._steps.train(state, batch)
        rows, records = self._rows["validation"], self._records["validation"]
        batches = self._batches["validation"]
        found = predict(self._task, self._forward, state.params, batches, rows, records, self._mesh)
        return self._task.score(found, records)


def make_probe(
    settings: RunSettings, model: ModelConfig, store: TokenStore, mesh: Mesh
) -> Probe | None:
    """The probe of a run in training, or None if the config asks for none.

    Raises:
      UserError: its data cannot be used.
    """
    if not settings.probe.every:
        return None
    tokenizer = load_tokenizer(store.tokenizer_directory)
    model = dataclasses.replace(model, rows="padded")
    probe = _settings(settings.probe, model, settings.training.seed)
    if settings.probe.kind == "frozen" and settings.probe.task in FITTED:
        return FittedProbe(probe.tasks[0], model, tokenizer, mesh, probe.seed)
    whole = dataclasses.replace(settings.training.mesh, micro_batches=1)
    return TrainedProbe(probe, model, tokenizer, mesh, whole)


def _mean_hidden(model: Bert, batch: Batch) -> dict[str, Array]:
    return {"features": pooled(model.hidden(batch), batch, "mean")}


def _settings(probe: ProbeSettings, model: ModelConfig, seed: int) -> FinetuneSettings:
    """The fine-tuning that a probe is.

    Raises:
      UserError: a field of `config.probe` is invalid.
    """
    if probe.task not in TASKS:
        raise UserError(f"config.probe.task is {probe.task!r}: choose one of {', '.join(TASKS)}")
    config = default_config()
    config.task, config.init, config.seed = probe.task, "probe", seed
    config.max_length = min(probe.max_length, model.max_position_embeddings)
    config.total_steps, config.learning_rate = probe.steps, probe.learning_rate
    config.freeze = "encoder" if probe.kind == "frozen" else ""
    for name in DATA:
        config.data[name] = getattr(probe, name)
    return parse(config)
