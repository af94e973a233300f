"""Give a text any number of labels: topics, tags, emotions.

Command:   python -m bert_jax.finetune --config=configs/finetune/multi_label.py
           --config.init=runs/mine --config.data.train=train.jsonl --workdir=runs/topics
Data:      the labels of an example are a list (jsonl, parquet), or a text with commas.
Expect:    the threshold is the one with the best micro F1 on the validation split.
"""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config.finetuning import default_config


def get_config(arg: str = "") -> ConfigDict:
    """Multi-label classification; it takes no argument."""
    if arg:
        raise UserError(f"configs/finetune/multi_label.py:{arg}: it takes no argument")
    config = default_config()
    config.task = "multi_label"
    config.epochs = 5.0
    config.learning_rate = 1e-4
    return config
