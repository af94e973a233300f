"""Tag the words of a sentence: entities, parts of speech.

Paper:     BERT (https://arxiv.org/abs/1810.04805), section 5.3: the first piece of a word is
           labelled; with --config.crf=True a linear-chain CRF over the tags (Lafferty et al. 2001).
Command:   python -m bert_jax.finetune --config=configs/finetune/tagging.py
           --config.init=runs/mine --config.data.train=train.conll --workdir=runs/entities
Data:      CoNLL (IOB1, IOB2, IOBES and BILOU are found and converted), CoNLL-U, jsonl.
Cost:      docs/downstream.md has measured times and scores.
"""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config.finetuning import default_config


def get_config(arg: str = "") -> ConfigDict:
    """Tagging; it takes no argument."""
    if arg:
        raise UserError(f"configs/finetune/tagging.py:{arg}: it takes no argument")
    config = default_config()
    config.task = "tagging"
    config.epochs = 5.0
    config.learning_rate = 2e-4
    return config
