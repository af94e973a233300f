"""Attention within the documents of a row: one function, `attend`, with named backends."""

from bert_jax.model.attention.choice import BACKENDS, Call, effective_window, explain, resolve
from bert_jax.model.attention.dispatch import attend
from bert_jax.model.attention.rotary import Angles, rotary_angles, rotate

__all__ = [
    "BACKENDS",
    "Angles",
    "Call",
    "attend",
    "effective_window",
    "explain",
    "resolve",
    "rotary_angles",
    "rotate",
]
