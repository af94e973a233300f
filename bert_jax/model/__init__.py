"""The encoder and its pretraining heads: BERT as published, ModernBERT as published, one code."""

from bert_jax.model.bert import Batch, Bert, Outputs, Params, abstract, initialize
from bert_jax.model.config import ModelConfig
from bert_jax.model.cross_entropy import Totals

__all__ = [
    "Batch",
    "Bert",
    "ModelConfig",
    "Outputs",
    "Params",
    "Totals",
    "abstract",
    "initialize",
]
