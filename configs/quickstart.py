"""A small encoder with the modern recipe: from text to a PyTorch folder in minutes on a laptop.

Paper:     ModernBERT (https://arxiv.org/abs/2412.13663) for the architecture: pre-norm, rotary
           positions, GeGLU, no biases; Muon (https://kellerjordan.github.io/posts/muon) for the
           encoder's matrices.
Corpus:    the English documentation in the installed packages (about 20 MB).
Command:   python -m bert_jax.train --config=configs/quickstart.py
Hardware:  two CPU cores, no GPU.
Hours:     0.1 in all: half a minute for corpus and tokenizer, then 5 minutes of training on any
           machine: its steps are as many as fit (config.budget).
Expect:    held-out masked-token accuracy 0.50 (15 % of the tokens, 80/10/10), loss 2.8: measured
           twice, after 1,332 and 1,472 steps on a 2-core AMD EPYC with AVX512-BF16.
"""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, modern


def get_config(arg: str = "") -> ConfigDict:
    """The quickstart; it takes no argument."""
    if arg:
        raise UserError(f"--config=configs/quickstart.py:{arg}: this config takes no argument")
    config = default_config()
    config.total_steps = 0
    config.budget = "5m"
    config.warmup_steps = 0.1
    config.global_batch_size = 32
    config.learning_rate = 3e-3
    config.eval_every = 0.2
    config.checkpoint_every = 0.25

    config.corpus.source = "docs:"
    config.tokenizer.vocab_size = 8192

    config.stream.objective = "packed"
    config.stream.sequence_length = 128
    config.stream.mask_rate = 0.3

    modern(config.model)
    config.model.hidden_size = 128
    config.model.num_hidden_layers = 4
    config.model.num_attention_heads = 2
    config.model.intermediate_size = 256
    config.model.compute_dtype = "auto"

    optimizer = config.optimizer
    optimizer.name = "muon"
    optimizer.muon_learning_rate = 0.02
    optimizer.schedule = "linear"
    optimizer.final_lr_fraction = 0.02
    optimizer.b2 = 0.98
    optimizer.weight_decay = 0.01
    optimizer.clip_norm = 0.0
    return config
