"""Learn vectors of texts whose cosine is their similarity.

Paper:     Sentence-BERT (https://arxiv.org/abs/1908.10084) with --config.similarity=regression;
           SimCSE (https://arxiv.org/abs/2104.08821) with contrastive (pairs, and hard negatives
           with --config.data.text_negative) and unsupervised (texts alone; needs dropout).
Command:   python -m bert_jax.finetune --config=configs/finetune/similarity.py
           --config.init=runs/mine --config.data.train=train.tsv --config.data.validation=dev.tsv
           --config.data.text=sentence1 --config.data.text_pair=sentence2
           --config.data.label=score --workdir=runs/similarity
Data:      validation is always pairs with a score; for unsupervised, train has one text a row.
"""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config.finetuning import default_config


def get_config(arg: str = "") -> ConfigDict:
    """Similarity; it takes no argument."""
    if arg:
        raise UserError(f"configs/finetune/similarity.py:{arg}: it takes no argument")
    config = default_config()
    config.task = "similarity"
    config.epochs = 2.0
    config.batch_size = 64
    config.learning_rate = 1e-4
    config.similarity = "regression"
    config.pooling = "mean"
    config.max_length = 64
    return config
