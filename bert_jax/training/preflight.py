"""Checks of the settings before any work is done."""

from pathlib import Path

from jax.sharding import Mesh

from bert_jax import model as model_lib
from bert_jax.corpus.settings import TokenizerSettings
from bert_jax.corpus.tokenizers.load import open_tokenizer
from bert_jax.model import ModelConfig
from bert_jax.model.attention import Call, explain, resolve
from bert_jax.model.placement import platform_of
from bert_jax.stream.phases import Phase
from bert_jax.training import sharding
from bert_jax.training.optimizers import make_optimizer
from bert_jax.training.parameter_rules import check_rules
from bert_jax.training.settings import TrainingSettings


def check(
    settings: TrainingSettings, phases: tuple[Phase, ...], models: list[ModelConfig], mesh: Mesh
) -> None:
    """Check optimizer, objective, batch sizes, attention backends and parameter shardings.

    Args:
      settings: of the run.
      phases: of the run.
      models: the encoder in each phase.
      mesh: of the devices.

    Raises:
      UserError: names the fields and the fix.
    """
    make_optimizer(settings.optimizer)
    settings.objective.check_model(models[0])
    for phase, model in zip(phases, models, strict=True):
        sharding.check_batch_size(mesh, phase.global_batch_size, settings.mesh.micro_batches)
        attention_backends(model, mesh, phase)
    _, params = model_lib.abstract(models[0])
    sharding.parameter_shardings(mesh, params)
    check_rules("optimizer.rates", settings.optimizer.rates, params)


def vocab_size(tokenizer: TokenizerSettings) -> int:
    """Tokens of a run's tokenizer: of the existing one, or as many as the new one will have.

    Raises:
      UserError: the existing one cannot be used.
    """
    if not tokenizer.path:
        return tokenizer.vocab_size
    path = Path(tokenizer.path)
    return open_tokenizer(path, tokenizer.lowercase, tokenizer.strip_accents).vocabulary.size


def attention_backends(model: ModelConfig, mesh: Mesh, phase: Phase) -> dict[Call, str]:
    """The backend for each kind of attention layer in a phase.

    Raises:
      UserError: the backend that the config names cannot compute it.
    """
    platform = platform_of(mesh.devices.flat[0])
    calls = model.attention_calls(phase.sequence_length, platform)
    return {
        call: resolve(model.attention_backend, call)
        for call in sorted(calls, key=lambda call: call.window)
    }


def attention_names(model: ModelConfig, mesh: Mesh, phase: Phase) -> str:
    """The backends of a phase's layers, comma-separated, each once."""
    return ", ".join(dict.fromkeys(attention_backends(model, mesh, phase).values()))


def attention_lines(
    phases: tuple[Phase, ...], model: ModelConfig, mesh: Mesh, micro_batches: int
) -> list[str]:
    """Which attention backends a run uses, and why; a line for each kind of layer and length."""
    parts = sharding.parts_of_batch(mesh, micro_batches)
    heads = model.num_attention_heads // mesh.shape["tensor"]
    lines = [
        explain(backend, call, phase.global_batch_size // parts, heads)
        for phase in phases
        for call, backend in attention_backends(model, mesh, phase).items()
    ]
    return list(dict.fromkeys(lines))
