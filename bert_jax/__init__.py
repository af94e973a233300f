"""Pretrain your own BERT on any text, in JAX, and fine-tune it in PyTorch.

`bert_jax.load(workdir)` loads a trained encoder. To train from Python, call what the commands call:

    from bert_jax.config import named
    from bert_jax.train import train

    train(named("quickstart", budget="40s"), "runs/small")
    bert_jax.load("runs/small").fill_mask("The capital of France is [MASK].")
"""

import importlib
from typing import Any

from bert_jax.common import loading

__version__ = "0.1.0"
__all__ = ["load"]

loading.show()


def __getattr__(name: str) -> Any:
    """`load`, which imports JAX only when it is used."""
    if name == "load":
        return importlib.import_module("bert_jax.run.pretrained").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
