"""Loads a pretrained encoder by name: a run of ours, or a folder of `transformers`."""

import dataclasses
from pathlib import Path

from bert_jax.common import bucket, console
from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.interop.load import is_model_folder, load_folder
from bert_jax.model import ModelConfig, Params
from bert_jax.run.workdir import load_run


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """An encoder with its heads, as the commands that use one need it.

    Attributes:
      path: the folder that it was loaded from.
      model: its architecture; takes rows of several documents, on any device.
      params: its parameters, float32 arrays on the host.
      tokenizer: the one that it was trained with.
      step: of the checkpoint; None in a folder of `transformers`.
    """

    path: Path
    model: ModelConfig
    params: Params
    tokenizer: Tokenizer
    step: int | None

    @property
    def mask(self) -> str:
        """How the tokenizer writes the mask: `[MASK]`, or `<mask>`."""
        return self.tokenizer.piece(self.tokenizer.vocabulary.mask_id)


def load(name: str | Path, step: int | None = None, *, allow_pickle: bool = False) -> Pretrained:
    """The encoder that `name` stands for.

    Says what a folder of `transformers` lacks, such as the masked-language head.

    Args:
      name: a workdir, a workdir and a step as in `runs/mine@500`, or a folder of `transformers`.
      step: of the checkpoint in a workdir; None: that in `name`, else the newest whole one.
      allow_pickle: whether to read weights that are pickles (`pytorch_model.bin`).

    Raises:
      UserError: there is no encoder, or it cannot be used; the message says why.
    """
    path, step = split_step(str(name), step)
    if not path.is_dir():
        raise UserError(f"{path} is missing: name a workdir or a folder of transformers")
    if not is_model_folder(path):
        run = load_run(path, step)
        tokenizer = load_tokenizer(run.tokenizer_directory)
        return Pretrained(path, run.model, run.params, tokenizer, run.step)
    if step is not None:
        raise UserError(f"{path} is a folder of transformers: it has no step {step}")
    imported = load_folder(path, allow_pickle=allow_pickle)
    for note in imported.notes:
        console.say(f"Note on {path}: {note}")
    return Pretrained(path, imported.model, imported.params, imported.tokenizer, None)


def split_step(name: str, step: int | None = None) -> tuple[Path, int | None]:
    """`runs/mine@500` as the path and the step; a `step` that is given by itself wins."""
    path, _, text = name.rpartition("@")
    is_url = name.startswith("gs://")
    if path and text.isdigit() and (is_url or not Path(name).exists()):
        return bucket.opened(path), int(text) if step is None else step
    return bucket.opened(name), step
