"""The encoder and its pretraining heads: BERT as published, ModernBERT as published, one code."""

from bert_jax.model.bert import Batch, Bert, Outputs, abstract, initialize
from bert_jax.model.config import ModelConfig

__all__ = ["Batch", "Bert", "ModelConfig", "Outputs", "abstract", "initialize"]
