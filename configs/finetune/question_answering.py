"""Find the answer to a question in a text: SQuAD 1.1 and 2.0.

Paper:     BERT (https://arxiv.org/abs/1810.04805), sections 4.2 and 4.3: windows of 384 tokens that
           overlap by 128, questions of at most 64 tokens, answers of at most 30.
Command:   python -m bert_jax.finetune --config=configs/finetune/question_answering.py
           --config.init=runs/mine --config.data.train=train-v1.1.json
           --config.data.validation=dev-v1.1.json --workdir=runs/squad
Cost:      docs/downstream.md has measured times and scores.
"""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config.finetuning import default_config


def get_config(arg: str = "") -> ConfigDict:
    """Extractive question answering; it takes no argument."""
    if arg:
        raise UserError(f"configs/finetune/question_answering.py:{arg}: it takes no argument")
    config = default_config()
    config.task = "question_answering"
    config.epochs = 2.0
    config.batch_size = 16
    config.learning_rate = 1e-4
    config.max_length = 384
    config.stride = 128
    return config
