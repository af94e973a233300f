"""A probe during pretraining: what the frozen encoder's features know about a task.

Every `config.probe.every` steps a logistic regression (a ridge regression for numbers) is fitted on
the mean of the tokens' hidden states of labelled texts, and scored on others: an early sign of how
well fine-tuning will go, for the cost of one forward pass over the examples.
"""

import dataclasses

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from bert_jax.common.errors import UserError
from bert_jax.config import ProbeSettings, RunSettings
from bert_jax.config.finetuning import default_config, parse
from bert_jax.corpus.store import TokenStore
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.model import Batch, Bert, ModelConfig, Params
from bert_jax.tasks import Task
from bert_jax.tasks.base import EVALUATE
from bert_jax.tasks.batches import RowBatches
from bert_jax.tasks.data import splits
from bert_jax.tasks.evaluation import jitted, outputs_of_rows
from bert_jax.tasks.heads import pooled
from bert_jax.tasks.text import mean_of_units

KINDS = ("classification", "regression")
ROWS = 32  # of a batch, a device


class Probe:
    """The labelled texts, tokenized once, and the jitted features."""

    def __init__(
        self,
        settings: ProbeSettings,
        model: ModelConfig,
        tokenizer: Tokenizer,
        mesh: Mesh,
        seed: int,
    ):
        """Raises:
        UserError: the data cannot be read, or its labels cannot be learned.
        """
        self._mesh, self._seed = mesh, seed
        self._task = _task(settings, model)
        self._records = splits(self._task.settings.data)
        self._task.learn(self._records["train"])
        self._rows = {
            split: self._task.features(records, tokenizer, EVALUATE)
            for split, records in self._records.items()
        }
        vocabulary = tokenizer.vocabulary
        self._batches = {
            split: RowBatches(rows, vocabulary, ROWS * mesh.size, seed=0, shapes=2)
            for split, rows in self._rows.items()
        }
        self._forward = jitted(_mean_hidden, model, Bert, mesh)

    def scores(self, params: Params) -> dict[str, float]:
        """Fit on the training examples, score on the validation ones; by metric."""
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
    return Probe(settings.probe, model, tokenizer, mesh, settings.training.seed)


def _mean_hidden(model: Bert, batch: Batch) -> dict[str, Array]:
    return {"features": pooled(model.hidden(batch), batch, "mean")}


def _task(settings: ProbeSettings, model: ModelConfig) -> Task:
    if settings.task not in KINDS:
        raise UserError(f"config.probe.task is {settings.task!r}: choose {' or '.join(KINDS)}")
    config = default_config()
    config.task, config.init = settings.task, "probe"
    config.max_length = min(settings.max_length, model.max_position_embeddings)
    for name in ("train", "validation", "text", "text_pair", "label", "limit"):
        config.data[name] = getattr(settings, name)
    return parse(config).tasks[0]
