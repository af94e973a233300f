"""Pretrain your own BERT on any text, in JAX, and fine-tune it in PyTorch."""

__version__ = "0.1.0"
