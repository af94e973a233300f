"""Settings that do not go together, refused before any work is done."""

from pathlib import Path

from jax.sharding import Mesh
from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.load import open_tokenizer
from bert_jax.model import ModelConfig
from bert_jax.model.attention import Call, explain, resolve
from bert_jax.model.placement import platform_of
from bert_jax.stream.phases import Phase, phases
from bert_jax.stream.settings import PAIR_OBJECTIVES
from bert_jax.training import sharding
from bert_jax.training.optimizer import make_optimizer
from bert_jax.training.step import model_of

COUNTS = ("log_every", "eval_every", "eval_batches", "checkpoint_every", "keep_checkpoints")


def check(config: ConfigDict, mesh: Mesh) -> None:
    """Refuse what no run can be made of.

    Raises:
      UserError: names the fields and the mend.
    """
    make_optimizer(config)
    size = vocab_size(config)
    for phase in phases(config):
        sharding.check_batch_size(mesh, phase.global_batch_size, config.mesh.micro_batches)
        attention_backends(model_of(config, size, phase), mesh, phase)
    if (config.stream.objective in PAIR_OBJECTIVES) != config.model.next_sentence:
        raise UserError(
            f"config.stream.objective is {config.stream.objective!r} and config.model.next_sentence"
            f" is {config.model.next_sentence}: the pairs and the head that learns from them go "
            "together, so change one of the two"
        )
    for name in COUNTS:
        if config[name] < 1:
            raise UserError(f"config.{name} is {config[name]}: set it to 1 or more")


def vocab_size(config: ConfigDict) -> int:
    """Pieces of the run's tokenizer: of the one that is brought along, or of the one to train.

    Raises:
      UserError: the one that is brought along cannot be used.
    """
    if not config.tokenizer.path:
        return config.tokenizer.vocab_size
    wanted = config.tokenizer
    tokenizer = open_tokenizer(Path(wanted.path), wanted.lowercase, wanted.strip_accents)
    return tokenizer.vocabulary.size


def attention_backends(model: ModelConfig, mesh: Mesh, phase: Phase) -> dict[Call, str]:
    """What each kind of layer asks of its attention in a phase, and who computes it.

    Raises:
      UserError: the backend that the config names cannot.
    """
    platform = platform_of(mesh.devices.flat[0].platform)
    calls = model.attention_calls(phase.sequence_length, platform)
    return {
        call: resolve(model.attention_backend, call)
        for call in sorted(calls, key=lambda call: call.window)
    }


def attention_names(model: ModelConfig, mesh: Mesh, phase: Phase) -> str:
    """The backends of a phase's layers, each once."""
    return ", ".join(dict.fromkeys(attention_backends(model, mesh, phase).values()))


def attention_lines(config: ConfigDict, model: ModelConfig, mesh: Mesh) -> list[str]:
    """Which backends a run's attention takes, why, and what a dense one costs; each thing once."""
    parts = sharding.parts_of_batch(mesh, config.mesh.micro_batches)
    heads = model.num_attention_heads // mesh.shape["tensor"]
    lines = [
        explain(backend, call, phase.global_batch_size // parts, heads)
        for phase in phases(config)
        for call, backend in attention_backends(model, mesh, phase).items()
    ]
    return list(dict.fromkeys(lines))
