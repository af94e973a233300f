"""A small encoder that learns from a larger one: half its depth and half its width.

Paper:     MiniLMv2 (https://arxiv.org/abs/2012.15828): the student's last layer learns the
           relations among the teacher's queries, keys and values; and it learns the predictions of
           masked tokens (https://arxiv.org/abs/1503.02531).
Command:   python -m bert_jax.train --config=configs/distil.py:runs/teacher \\
             --config.corpus.source='text:/data/*.txt' --workdir=runs/student
Argument:  the teacher: a workdir, workdir@step, or a folder of transformers with a tokenizer.json.
           The student has its tokenizer and its kind of layers.
Recipe:    10,000 steps of 128 rows of 128 tokens, 30 % of them masked; Muon; relation heads of
           width 8 in the student (48 for a teacher of BERT-base's size, as in the paper); the
           teacher's last layer, or 7/8 up where it has more than 12 (layer 21 of BERT-large). All
           three losses count alike.
Cost:      a step takes the teacher's forward pass more. Measured for 2 x 128 beside 4 x 256: 3.1
           times the step of the student alone with relations, 4.0 times with both
           (docs/speedrun.md). The teacher's parameters are in memory, without optimizer state.
Hours:     not measured.
Expect:    not measured. A comparison at equal compute (https://arxiv.org/abs/2404.19319) finds
           MiniLM better downstream than the same size alone, by more where data repeats, and
           predictions by themselves no better.
"""

from pathlib import Path

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config import default_config
from bert_jax.interop.load import is_model_folder
from bert_jax.run import pretrained
from bert_jax.run.workdir import TOKENIZER

DEEP = 12  # layers; of deeper teachers, an upper middle layer is learned from


def get_config(arg: str = "") -> ConfigDict:
    """A student of the teacher `arg`."""
    if not arg:
        raise UserError(
            "--config=configs/distil.py needs the teacher after a colon: "
            "configs/distil.py:runs/teacher"
        )
    teacher = pretrained.load(arg)
    config = default_config()
    config.total_steps = 10_000
    config.warmup_steps = 0.05
    config.global_batch_size = 128
    config.learning_rate = 3e-3
    config.eval_every = 0.1
    config.checkpoint_every = 0.1

    is_folder = is_model_folder(teacher.path)
    config.tokenizer.path = str(teacher.path if is_folder else Path(teacher.path) / TOKENIZER)

    config.stream.objective = "packed"
    config.stream.sequence_length = min(128, teacher.config.max_position_embeddings)
    config.stream.mask_rate = 0.3

    model, theirs = config.model, teacher.config
    for name in ("position", "norm", "feed_forward", "use_bias", "token_types", "norm_epsilon"):
        model[name] = getattr(theirs, name)
    for name in ("local_attention", "global_every", "rope_theta", "local_rope_theta"):
        model[name] = getattr(theirs, name)
    model.max_position_embeddings = theirs.max_position_embeddings
    model.num_hidden_layers = max(1, theirs.num_hidden_layers // 2)
    model.hidden_size = theirs.hidden_size // 2
    model.num_attention_heads = max(1, theirs.num_attention_heads // 2)
    model.intermediate_size = theirs.intermediate_size // 2
    model.next_sentence = False
    model.dropout = model.attention_dropout = 0.0
    model.compute_dtype = "auto"

    distillation = config.distillation
    distillation.teacher = arg
    distillation.teacher_layer = (
        0 if theirs.num_hidden_layers <= DEEP else theirs.num_hidden_layers * 7 // 8
    )
    distillation.relation_heads = max(1, model.hidden_size // 8)
    distillation.relation_weight = 1.0
    distillation.soft_weight = 1.0
    distillation.temperature = 1.0
    distillation.mlm_weight = 1.0

    optimizer = config.optimizer
    optimizer.name = "muon"
    optimizer.muon_learning_rate = 0.02
    optimizer.schedule = "linear"
    optimizer.final_lr_fraction = 0.02
    optimizer.b2 = 0.98
    optimizer.weight_decay = 0.01
    optimizer.clip_norm = 0.0
    return config
