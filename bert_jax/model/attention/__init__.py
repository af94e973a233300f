"""Attention within the documents of a row, behind one function with named backends."""

from bert_jax.model.attention.choice import BACKENDS
from bert_jax.model.attention.dispatch import attend
from bert_jax.model.attention.rotary import Angles, rotary_angles, rotate

__all__ = ["BACKENDS", "Angles", "attend", "rotary_angles", "rotate"]
