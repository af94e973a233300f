"""Choose the right one of several candidates: SWAG, RACE, CommonsenseQA.

Paper:     BERT (https://arxiv.org/abs/1810.04805), section 4.4.
Command:   python -m bert_jax.finetune --config=configs/finetune/multiple_choice.py
           --config.init=runs/mine --config.data.train=train.jsonl --workdir=runs/swag
Data:      a column with the context, the candidates as a list in one column or as several columns
           (--config.data.choices=ending0,ending1,ending2,ending3), the number of the right one.
"""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config.finetuning import default_config


def get_config(arg: str = "") -> ConfigDict:
    """Multiple choice; it takes no argument."""
    if arg:
        raise UserError(f"configs/finetune/multiple_choice.py:{arg}: it takes no argument")
    config = default_config()
    config.task = "multiple_choice"
    config.epochs = 3.0
    config.batch_size = 16
    config.learning_rate = 1e-4
    return config
