"""An encoder from 10 million words, shown many times: the setting of BabyLM.

Paper:     BabyLM (https://arxiv.org/abs/2504.08165) for the setting; falling mask rate: Yang et al.
           (https://arxiv.org/abs/2305.15096); dropout and weight decay against repetition:
           Muennighoff et al. (https://arxiv.org/abs/2305.16264).
Command:   python -m bert_jax.train --config=configs/small_data.py \\
             --config.corpus.source='text:/data/*.txt' --workdir=runs/small_data
Recipe:    8 x 256 and 8,192 pieces; about 20 epochs of 13 million tokens in rows of 128; 40 % of
           the tokens masked at the beginning, 15 % at the end; dropout 0.1.
Hardware:  a laptop or one GPU.
Hours:     not measured.
Expect:    not measured.
"""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, modern


def get_config(arg: str = "") -> ConfigDict:
    """The recipe; it takes no argument."""
    if arg:
        raise UserError(f"--config=configs/small_data.py:{arg}: this config takes no argument")
    config = default_config()
    config.total_steps = 32_000
    config.warmup_steps = 0.02
    config.global_batch_size = 64
    config.learning_rate = 3e-3
    config.eval_every = 0.05
    config.checkpoint_every = 0.05

    config.tokenizer.vocab_size = 8_192

    config.stream.objective = "packed"
    config.stream.sequence_length = 128
    config.stream.mask_rate = 0.4
    config.stream.final_mask_rate = 0.15

    model = config.model
    modern(model)
    model.num_hidden_layers = 8
    model.hidden_size = 256
    model.num_attention_heads = 4
    model.intermediate_size = 384
    model.dropout = 0.1
    model.compute_dtype = "auto"

    optimizer = config.optimizer
    optimizer.name = "muon"
    optimizer.muon_learning_rate = 0.02
    optimizer.schedule = "linear"
    optimizer.final_lr_fraction = 0.0
    optimizer.b1, optimizer.b2 = 0.9, 0.98
    optimizer.epsilon = 1e-6
    optimizer.weight_decay = 0.1
    optimizer.clip_norm = 0.0
    return config
