"""BERT in about 8,600 large steps: LAMB with batches of 65,536 and 32,768 sequences.

Paper:     LAMB (https://arxiv.org/abs/1904.00962, table 1 and section 4.1): 64k/32k, the second
           phase warmed up again. Learning rates and warm-ups as in NVIDIA's published recipe.
Command:   python -m bert_jax.train --config=configs/bert_lamb.py:base \\
             --config.corpus.source='text:/data/*.txt' --workdir=runs/lamb
Sizes:     those of configs/bert.py; the argument after the colon.
Recipe:    7,038 steps of 65,536 sequences of 128 tokens at 6e-3, then 1,563 steps of 32,768
           sequences of 512 tokens at 4e-3; trust ratios for matrices only.
Hardware:  a batch is too large for one device: --config.mesh.micro_batches=N adds up N parts.
Hours:     the paper: 76 minutes on 1,024 TPU v3 chips (large). Not measured with this code.
Expect:    the paper: 90.6 F1 on SQuAD 1.1 (large). Not measured with this code.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

SHORT, LONG = 7_038, 1_563  # steps of each phase


def get_config(arg: str = "base") -> ConfigDict:
    """BERT of the size `arg`, trained with LAMB."""
    bert = runpy.run_path(str(Path(__file__).with_name("bert.py")))
    config = bert["get_config"](arg)
    config.total_steps = SHORT + LONG
    config.warmup_steps = 2_000
    config.learning_rate = 6e-3
    config.eval_every = 500
    config.checkpoint_every = 200
    at = SHORT / config.total_steps
    config.stream.phases = (
        {"until": at, "sequence_length": 128, "global_batch_size": 65_536},
        {"until": 1.0, "sequence_length": 512, "global_batch_size": 32_768},
    )
    config.model.compute_dtype = "auto"

    optimizer = config.optimizer
    optimizer.name = "lamb"
    optimizer.lamb_adapts = "matrices"
    optimizer.schedule = "linear"
    optimizer.restarts = ({"at": at, "warmup_steps": 200, "peak": 4 / 6},)
    optimizer.final_lr_fraction = 0.0
    optimizer.b1, optimizer.b2 = 0.9, 0.999
    optimizer.epsilon = 1e-6
    optimizer.weight_decay = 0.01
    optimizer.clip_norm = 1.0
    return config
