"""Pretrain your own BERT on any text, in JAX, and fine-tune it in PyTorch.

`bert_jax.load(workdir)` loads a trained encoder; `bert_jax.api` has all of the Python interface.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load`, which imports JAX only when it is used."""
    if name == "load":
        return importlib.import_module("bert_jax.api").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
