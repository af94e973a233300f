"""Objectives by the name that `config.stream.objective` gives."""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.training.objectives.base import Objective, StepObjective
from bert_jax.training.objectives.masked_lm import PackedMaskedLM
from bert_jax.training.objectives.next_sentence import NextSentence
from bert_jax.training.objectives.sentence_order import SentenceOrder

OBJECTIVES: dict[str, type[Objective]] = {
    "packed": PackedMaskedLM,
    "nsp": NextSentence,
    "sop": SentenceOrder,
}


def parse_objective(config: ConfigDict) -> Objective:
    """The objective of a run.

    Raises:
      UserError: its name is not registered, or a setting is invalid.
    """
    name = config.stream.objective
    if name not in OBJECTIVES:
        raise UserError(f"config.stream.objective={name!r} is none of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name].from_config(config)


__all__ = ["OBJECTIVES", "Objective", "StepObjective", "parse_objective"]
