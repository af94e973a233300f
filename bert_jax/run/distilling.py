"""The teacher of a run, `config.distillation.teacher`: loaded, checked, and recognized again.

`config.json` has the place where it is from, with the step; each checkpoint of the run has the
fingerprint of its parameters, so that a run does not continue with another teacher.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from bert_jax.common import console, processes
from bert_jax.common.errors import UserError
from bert_jax.config import RunSettings, parse
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import open_tokenizer
from bert_jax.interop.load import NEW_HEAD
from bert_jax.model import Params
from bert_jax.run import pretrained
from bert_jax.run.initial import Source
from bert_jax.run.pretrained import Pretrained
from bert_jax.training import saved
from bert_jax.training.frozen import Frozen
from bert_jax.training.objectives.distillation import Teacher
from bert_jax.training.parameter_rules import name_of

FACT = "teacher"  # of a checkpoint: the fingerprint of the teacher's parameters


def load(config: ConfigDict) -> Teacher | None:
    """The teacher of a run; adds its step to `config.distillation.teacher`. None: the run has none.

    Raises:
      UserError: it cannot be loaded, or does not suit the run.
    """
    settings = parse(config)
    name = settings.distillation.teacher
    if not name:
        return None
    if "://" in name:
        raise UserError(
            f"config.distillation.teacher={name}: URLs are not supported here: copy the teacher to "
            "a mounted file system and name the copy"
        )
    source = Source(*pretrained.split_step(name))
    try:
        if not source.is_folder:  # a step that all processes take, even if the teacher trains on
            step = processes.of_first(
                lambda: saved.choose(source.checkpoints, source.step), f"read {source}"
            )
            source = source._replace(step=step)
        encoder = pretrained.load(source.directory, source.step)
    except UserError as error:
        raise UserError(f"config.distillation.teacher={name}: {error}") from error
    config.distillation.teacher = str(source)
    _check(settings, encoder)
    model = encoder.config
    teacher = Teacher(
        str(source),
        model,
        Frozen(encoder.params),
        fingerprint(encoder.params),
        vocabulary_fingerprint(encoder.tokenizer),
    )
    if path := settings.corpus.tokenizer.path:  # known before the corpus is prepared
        given = settings.corpus.tokenizer
        expect_same_vocabulary(
            teacher, open_tokenizer(Path(path), given.lowercase, given.strip_accents)
        )
    console.say(
        f"The teacher is {source}: {model.num_hidden_layers} layers of width {model.hidden_size}, "
        f"fingerprint {teacher.fingerprint}."
    )
    return teacher


def expect_same_vocabulary(teacher: Teacher, tokenizer: Tokenizer) -> None:
    """Check that the ids of a run's corpus are those of the teacher.

    Args:
      teacher: of the run.
      tokenizer: of the corpus.

    Raises:
      UserError: they are not; names the fingerprints of both vocabularies.
    """
    ours = vocabulary_fingerprint(tokenizer)
    if ours != teacher.vocabulary:
        raise UserError(
            f"config.distillation.teacher={teacher.name} has another vocabulary (fingerprint "
            f"{teacher.vocabulary}) than this run's corpus ({ours}): set config.tokenizer.path to "
            "the teacher's tokenizer, or config.corpus.directory to the token store that it was "
            "trained on"
        )


def expect_same_teacher(kept: Mapping[str, str], teacher: Teacher | None, step: int) -> None:
    """Check that a run continues with the teacher that it began with.

    Args:
      kept: facts of the checkpoint.
      teacher: of the run now.
      step: of the checkpoint.

    Raises:
      UserError: it has another one, or none.
    """
    before, now = kept.get(FACT, ""), facts(teacher).get(FACT, "")
    if before != now:
        raise UserError(
            f"this run learned from the teacher {before or '(none)'} up to step {step}, and "
            f"config.distillation.teacher is {teacher.name if teacher else '(none)'}, with the "
            f"fingerprint {now or '(none)'}: name the teacher that it began with, or use another "
            "--workdir"
        )


def facts(teacher: Teacher | None) -> dict[str, str]:
    """What a checkpoint records of the teacher."""
    return {FACT: teacher.fingerprint} if teacher else {}


def fingerprint(params: Params) -> str:
    """A hash of the names and values of parameters on the host."""
    found = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(params):
        found.update(f"{name_of(path)} {leaf.shape}".encode())
        found.update(np.ascontiguousarray(leaf).data)
    return found.hexdigest()[:16]


def vocabulary_fingerprint(tokenizer: Tokenizer) -> str:
    """A hash of all tokens in the order of their ids: the same in any format of a tokenizer."""
    pieces = "\n".join(tokenizer.piece(id) for id in range(tokenizer.vocab_size))
    return hashlib.sha256(pieces.encode()).hexdigest()[:16]


def _check(settings: RunSettings, encoder: Pretrained) -> None:
    """Raise if the teacher cannot do what the run asks for.

    Raises:
      UserError: its rows are too short, or it predicts no tokens.
    """
    name, most = encoder.path, encoder.config.max_position_embeddings
    longest = max(phase.sequence_length for phase in settings.stream.phases)
    if encoder.config.position == "learned" and longest > most:
        raise UserError(
            f"config.distillation.teacher={name} has positions for {most} tokens, and the run has "
            f"rows of {longest}: set config.stream.sequence_length to {most} or less"
        )
    if settings.distillation.soft_weight and NEW_HEAD in encoder.notes:
        raise UserError(
            f"config.distillation.teacher={name} has no masked-language head to learn predictions "
            "from: set config.distillation.soft_weight=0"
        )
