"""Continue the pretraining of an encoder on other text: domain adaptation.

Paper:     Don't Stop Pretraining (https://arxiv.org/abs/2004.10964); learning rate warmed up again
           as in Simple and Scalable Strategies to Continually Pre-train Large Language Models
           (https://arxiv.org/abs/2403.08763).
Command:   python -m bert_jax.convert import --from=FOLDER --workdir=runs/imported
           python -m bert_jax.train --config=configs/continue_pretraining.py:runs/imported \\
             --config.corpus.source='text:/data/mine/*.txt' --workdir=runs/adapted
Argument:  the workdir to begin with, or workdir@step: one that `convert import` made, or a run of
           ours. Its architecture and its tokenizer are kept.
Recipe:    12,500 steps of 256 rows of 128 tokens; AdamW; the learning rate is warmed up again to
           1e-4 over 6 % of the steps, then falls linearly to 0; 15 % of the tokens masked. Masked
           tokens alone: a next-sentence head is left out.
Optimizer: fresh. config.init_state=optimizer takes the moments of the run (not of an import, which
           has none) and warms the learning rate up again all the same.
Hardware:  the paper: one TPU v3-8, 12,500 steps of 2,048 rows of 512 tokens. Hours and gains of
           this code: not measured.
"""

from bert_jax.common.errors import UserError
from bert_jax.config import default_config
from bert_jax.run.pretrained import split_step
from bert_jax.run.workdir import TOKENIZER, load_config


def get_config(arg: str = ""):
    """Pretraining that begins with the encoder in the workdir `arg`."""
    config = default_config()
    config.total_steps = 12_500
    config.warmup_steps = 750
    config.global_batch_size = 256
    config.learning_rate = 1e-4
    config.log_every = 50
    config.eval_every = 500
    config.checkpoint_every = 500
    config.init_state = "params"

    config.stream.objective = "packed"
    config.stream.sequence_length = 128
    config.stream.mask_rate = 0.15

    config.optimizer.name = "adamw"
    config.optimizer.schedule = "linear"
    config.optimizer.weight_decay = 0.01
    config.optimizer.b2 = 0.98

    if not arg:
        raise UserError(
            "--config=configs/continue_pretraining.py needs the workdir to begin with after a "
            "colon: configs/continue_pretraining.py:runs/imported"
        )
    workdir, _ = split_step(arg)
    config.init_from = arg
    config.model.update(load_config(workdir).model)
    config.model.next_sentence = False
    config.tokenizer.path = str(workdir / TOKENIZER)
    return config
