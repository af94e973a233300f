"""BERT as published: post-norm, learned positions, GELU, masked tokens and next sentences.

Paper:     BERT (https://arxiv.org/abs/1810.04805, appendix A.2); the small sizes from Well-Read
           Students Learn Better (https://arxiv.org/abs/1908.08962).
Command:   python -m bert_jax.train --config=configs/bert.py:base \\
             --config.corpus.source='text:/data/*.txt' --workdir=runs/base
Sizes:     tiny (2 x 128), mini (4 x 256), small (4 x 512), medium (8 x 512), base (12 x 768),
           large (24 x 1024); the argument after the colon.
Recipe:    1,000,000 steps of 256 sequences, 128 tokens long for the first 90 % and 512 for the
           rest; AdamW 1e-4 with 10,000 steps of warm-up, then linear decay to 0; weight decay
           0.01; dropout 0.1; 15 % of the tokens masked, 10 % of the pairs shortened.
Hardware:  the paper: 4 days on 16 TPU v2 chips (base), on 64 (large). Hours on other hardware and
           held-out figures of this code: not measured.
           Shorter runs: set total_steps, or total_steps=0 and a budget; warm-up, phases,
           evaluations and checkpoints are shares of the run.
"""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config import default_config

# name: layers, width; heads are 64 wide, the feed-forward is 4 times as wide as the model.
SIZES = {
    "tiny": (2, 128),
    "mini": (4, 256),
    "small": (4, 512),
    "medium": (8, 512),
    "base": (12, 768),
    "large": (24, 1024),
}


def get_config(arg: str = "base") -> ConfigDict:
    """The published recipe at the size `arg`."""
    size = arg or "base"
    if size not in SIZES:
        raise UserError(f"--config=configs/bert.py:{size}: choose a size of {', '.join(SIZES)}")
    config = default_config()
    config.total_steps = 1_000_000
    config.warmup_steps = 0.01
    config.global_batch_size = 256
    config.learning_rate = 1e-4
    config.log_every = 100
    config.eval_every = 0.01
    config.checkpoint_every = 0.005

    config.tokenizer.vocab_size = 30_522
    config.tokenizer.lowercase = True

    config.corpus.split_sentences = True
    config.stream.objective = "nsp"
    config.stream.mask_rate = 0.15
    config.stream.mask_unit = "token"
    config.stream.mask_replace_prob = 0.8
    config.stream.random_replace_prob = 0.1
    config.stream.short_fraction = 0.1
    config.stream.phases = (
        {"until": 0.9, "sequence_length": 128},
        {"until": 1.0, "sequence_length": 512},
    )

    model = config.model
    model.num_hidden_layers, model.hidden_size = SIZES[size]
    model.num_attention_heads = model.hidden_size // 64
    model.intermediate_size = 4 * model.hidden_size
    model.max_position_embeddings = 512
    model.position = "learned"
    model.norm = "post"
    model.norm_epsilon = 1e-12
    model.feed_forward = "gelu"
    model.use_bias = True
    model.token_types = 2
    model.next_sentence = True
    model.dropout = 0.1
    model.attention_dropout = 0.1
    model.initializer_range = 0.02
    model.compute_dtype = "float32"

    optimizer = config.optimizer
    optimizer.name = "adamw"
    optimizer.schedule = "linear"
    optimizer.final_lr_fraction = 0.0
    optimizer.b1, optimizer.b2 = 0.9, 0.999
    optimizer.epsilon = 1e-6
    optimizer.weight_decay = 0.01
    optimizer.clip_norm = 1.0
    optimizer.next_sentence_weight = 1.0
    return config
