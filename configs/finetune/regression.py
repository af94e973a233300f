"""Predict a number for a text or a pair of texts: similarity as STS-B, quality, age.

Paper:     BERT (https://arxiv.org/abs/1810.04805), section 4.1 (STS-B).
Command:   python -m bert_jax.finetune --config=configs/finetune/regression.py
           --config.init=runs/mine --config.data.train=train.tsv --config.data.text=sentence1
           --config.data.text_pair=sentence2 --config.data.label=score --workdir=runs/stsb
Cost:      docs/downstream.md has measured times and scores.
"""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config.finetuning import default_config


def get_config(arg: str = "") -> ConfigDict:
    """Regression; it takes no argument."""
    if arg:
        raise UserError(f"configs/finetune/regression.py:{arg}: it takes no argument")
    config = default_config()
    config.task = "regression"
    config.epochs = 3.0
    config.learning_rate = 1e-4
    return config
