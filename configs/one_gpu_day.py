"""The best encoder of one day on one GPU: the setting of "Cramming", with a budget of 24 hours.

Paper:     Cramming (https://arxiv.org/abs/2212.14034, section 4): one GPU, one day, no pretrained
           parts; pre-norm, no biases, gated feed-forward, one-cycle learning rate, 25 % masking,
           batches that grow, sequences of 128 tokens.
Command:   python -m bert_jax.train --config=configs/one_gpu_day.py \\
             --config.corpus.source='text:/data/*.txt' --workdir=runs/day
Recipe:    12 x 768 on rows of 128 tokens; the paper's peak of 1e-3 and batches from 1,024 to 8,192
           rows at 60 % of the run; rotary positions in place of its learned ones.
Hardware:  one GPU of 24 GB or more; --config.mesh.micro_batches=N if a batch does not fit.
Hours:     24 (config.budget, without preparing the corpus). The step is measured on the card, and
           the schedule laid over what it reaches.
Expect:    the paper: 78.6 (A6000) on GLUE without WNLI. Not measured with this code.
"""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, modern
from bert_jax.stream.phases import batch_size_warmup


def get_config(arg: str = "") -> ConfigDict:
    """The recipe; it takes no argument."""
    if arg:
        raise UserError(f"--config=configs/one_gpu_day.py:{arg}: this config takes no argument")
    config = default_config()
    config.total_steps = 0
    config.budget = "24h"
    config.warmup_steps = 0.5
    config.global_batch_size = 8_192
    config.learning_rate = 1e-3
    config.log_every = 50
    config.eval_every = 0.02
    config.checkpoint_every = 0.02

    config.tokenizer.vocab_size = 32_768
    config.tokenizer.kind = "wordpiece"
    config.tokenizer.lowercase = True

    config.stream.objective = "packed"
    config.stream.sequence_length = 128
    config.stream.mask_rate = 0.25
    config.stream.phases = batch_size_warmup(1_024, 8_192, until=0.6, stages=3)

    model = config.model
    modern(model)
    model.num_hidden_layers = 12
    model.hidden_size = 768
    model.num_attention_heads = 12
    model.intermediate_size = 1_536
    model.max_position_embeddings = 512
    model.compute_dtype = "auto"

    optimizer = config.optimizer
    optimizer.name = "adamw"
    optimizer.schedule = "linear"
    optimizer.final_lr_fraction = 0.0
    optimizer.b1, optimizer.b2 = 0.9, 0.98
    optimizer.epsilon = 1e-12
    optimizer.weight_decay = 0.01
    optimizer.clip_norm = 0.5
    return config
