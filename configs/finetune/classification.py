"""Classify a text or a pair of texts: sentiment, acceptability, entailment.

Paper:     BERT (https://arxiv.org/abs/1810.04805), section 4.1 and appendix A.3: batches of 32,
           three epochs, learning rates 2e-5 to 5e-5. Small encoders need more: 1e-4 to 5e-4.
Command:   python -m bert_jax.finetune --config=configs/finetune/classification.py
           --config.init=runs/mine --config.data.train=train.tsv --workdir=runs/sst2
Data:      csv, tsv, jsonl or parquet with a column for the text and one for the label;
           --config.data.text=sentence1 --config.data.text_pair=sentence2 for pairs;
           columns of files without a header are numbers.
Cost:      docs/downstream.md has measured times and scores.
"""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config.finetuning import default_config


def get_config(arg: str = "") -> ConfigDict:
    """Classification; it takes no argument."""
    if arg:
        raise UserError(f"configs/finetune/classification.py:{arg}: it takes no argument")
    config = default_config()
    config.task = "classification"
    config.epochs = 3.0
    config.batch_size = 32
    config.learning_rate = 1e-4
    config.max_length = 128
    return config
