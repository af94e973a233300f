"""One encoder for several languages: sampling that becomes more even, pieces with byte fallback.

Paper:     mmBERT (https://arxiv.org/abs/2509.06888): languages are sampled by their size to a power
           that falls, 0.7 - 0.5 - 0.3, so that small ones come late and often.
Command:   python -m bert_jax.train --config=configs/multilingual.py:en=9,de=3,sw=0.2 \\
             --workdir=runs/multilingual
Argument:  the languages with their sizes, in any unit; the text of each is data/<language>/*.txt.
Recipe:    12 x 512, 64,000 pieces with byte fallback, 1024 tokens, a mask rate of 30 - 15 %, and a
           stable learning rate with a decay at the end.
Hardware:  any; the mesh uses all devices.
Hours:     not measured.
Expect:    not measured.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, modern

POWERS = ((0.6, 0.7), (0.9, 0.5), (1.0, 0.3))  # (share of the run at which it ends, power)


def get_config(arg: str = "") -> ConfigDict:
    """The recipe for the languages and sizes of `arg`."""
    sizes = parse_sizes(arg or "en=3,de=1")
    config = default_config()
    config.total_steps = 100_000
    config.warmup_steps = 0.01
    config.global_batch_size = 256
    config.learning_rate = 8e-4
    config.log_every = 100
    config.eval_every = 0.05
    config.checkpoint_every = 0.02

    config.corpus.source = [
        {"source": f"text:data/{name}/*.txt", "name": name, "language": name} for name in sizes
    ]
    config.tokenizer.kind = "bpe"
    config.tokenizer.vocab_size = 64_000
    config.tokenizer.byte_fallback = True
    config.tokenizer.sample_bytes = 100_000_000

    config.stream.objective = "packed"
    config.stream.sequence_length = 1024
    config.stream.mask_rate = 0.3
    config.stream.final_mask_rate = 0.15
    config.stream.phases = tuple(
        {"until": until, "weights": weights(sizes, power)} for until, power in POWERS
    )

    model = config.model
    modern(model)
    model.num_hidden_layers = 12
    model.hidden_size = 512
    model.num_attention_heads = 8
    model.intermediate_size = 768
    model.max_position_embeddings = 1024
    model.local_attention = 128
    model.compute_dtype = "auto"

    optimizer = config.optimizer
    optimizer.name = "stable_adamw"
    optimizer.schedule = "wsd"
    optimizer.decay_steps = 0.1
    optimizer.decay_shape = "sqrt"
    optimizer.final_lr_fraction = 0.0
    optimizer.b1, optimizer.b2 = 0.9, 0.98
    optimizer.epsilon = 1e-6
    optimizer.weight_decay = 1e-5
    optimizer.clip_norm = 0.0
    return config


def parse_sizes(arg: str) -> dict[str, float]:
    """`en=3,de=1` as a dict."""
    try:
        pairs = (part.split("=") for part in arg.split(","))
        sizes = {name: float(size) for name, size in pairs}
    except ValueError:
        sizes = {}
    if not sizes or min(sizes.values()) <= 0:
        raise UserError(
            f"--config=configs/multilingual.py:{arg}: give languages and sizes, as in en=3,de=1"
        )
    return sizes


def weights(sizes: Mapping[str, float], power: float) -> dict[str, float]:
    """The share of each language, by its size to a power."""
    scaled = {name: size**power for name, size in sizes.items()}
    return {name: round(value / sum(scaled.values()), 4) for name, value in scaled.items()}
