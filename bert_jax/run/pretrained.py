"""Loads a pretrained encoder by name: a run of ours, or a folder of `transformers`.

`bert_jax.load` is `load`.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from bert_jax.common import bucket, console
from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.inference import embed, fill_mask, logits
from bert_jax.inference.fill_mask import Prediction
from bert_jax.interop.load import is_model_folder, load_folder
from bert_jax.model import ModelConfig, Params
from bert_jax.run.workdir import CONFIG, load_run


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
    """An encoder with its heads and its tokenizer.

    Attributes:
      path: the folder that it was loaded from.
      config: its architecture; takes rows of several documents, on any device.
      params: its parameters, float32 arrays on the host.
      tokenizer: the one that it was trained with.
      step: of the checkpoint; None in a folder of `transformers`.
      notes: on how a folder was read.
    """

    path: Path
    config: ModelConfig
    params: Params
    tokenizer: Tokenizer
    step: int | None
    notes: tuple[str, ...] = ()

    @property
    def mask(self) -> str:
        """How the tokenizer writes the mask: `[MASK]`, or `<mask>`."""
        return self.tokenizer.piece(self.tokenizer.vocabulary.mask_id)

    @functools.cached_property
    def on_device(self) -> Params:
        """The parameters on this machine's first device."""
        return jax.device_put(self.params)

    def fill_mask(self, texts: str | Sequence[str], top: int = 5) -> list[list[list[Prediction]]]:
        """For each text and each of its [MASK]s, the most probable tokens.

        Raises:
          UserError: a text has no [MASK], or more tokens than the model takes.
        """
        return fill_mask.fill_mask(
            self.on_device, self.config, self.tokenizer, _as_list(texts), top
        )

    def embed(
        self, texts: str | Sequence[str], pooling: str = "mean", normalize: bool = False
    ) -> Float[np.ndarray, "n D"]:
        """A vector for each text: the mean over its tokens, or `cls`, that of its first one."""
        parts = self.embed_batches(_as_list(texts), pooling=pooling, normalize=normalize)
        return np.concatenate([*parts])

    def embed_batches(
        self,
        texts: Iterable[str],
        *,
        pooling: str,
        normalize: bool,
        max_length: int = 512,
        batch_size: int = 64,
    ) -> Iterator[Float[np.ndarray, "n D"]]:
        """As `embed`, batch by batch, for more texts than fit into memory."""
        return embed.embed(
            self.on_device,
            self.config,
            self.tokenizer,
            texts,
            pooling=pooling,
            normalize=normalize,
            max_length=max_length,
            batch_size=batch_size,
        )

    def logits(self, texts: str | Sequence[str]) -> list[Float[np.ndarray, "L V"]]:
        """For each text, the logits of the masked-language head at each token, [CLS] first.

        Raises:
          UserError: a text has more tokens than the model takes.
        """
        return logits.logits(self.on_device, self.config, self.tokenizer, _as_list(texts))


def load(
    name: str | Path,
    step: int | None = None,
    *,
    allow_pickle: bool = False,
    flag: str = "--workdir",
) -> Pretrained:
    """The encoder that `name` stands for.

    Says what a folder of `transformers` lacks, such as the masked-language head.

    Args:
      name: a workdir, a workdir and a step as in `runs/mine@500`, or a folder of `transformers`.
      step: of the checkpoint in a workdir; None: that in `name`, else the newest whole one.
      allow_pickle: whether to read weights that are pickles (`pytorch_model.bin`).
      flag: or field of a config that gave the name, for messages.

    Raises:
      UserError: there is no encoder, or it cannot be used; the message says why.
    """
    path, step = split_step(str(name), step)
    if not path.is_dir():
        raise UserError(f"{flag}={path} is missing: name a workdir or a folder of transformers")
    if not is_model_folder(path):
        if not (path / CONFIG).is_file():
            raise UserError(
                f"{flag}={path} holds no {CONFIG}: it is neither a workdir nor a folder of "
                "transformers"
            )
        run = load_run(path, step, flag)
        tokenizer = load_tokenizer(run.tokenizer_directory)
        return Pretrained(path, run.model, run.params, tokenizer, run.step)
    if step is not None:
        raise UserError(f"{path} is a folder of transformers: it has no step {step}")
    imported = load_folder(path, allow_pickle=allow_pickle)
    for note in imported.notes:
        console.say(f"Note on {path}: {note}")
    return Pretrained(
        path, imported.model, imported.params, imported.tokenizer, None, imported.notes
    )


def split_step(name: str, step: int | None = None) -> tuple[Path, int | None]:
    """`runs/mine@500` as the path and the step; a `step` that is given by itself wins."""
    path, found = _split(name)
    return bucket.opened(path), found if step is None else step


def with_step(name: str, step: int) -> str:
    """`name`, as `split_step` takes it, with this step: a bucket stays a bucket."""
    return f"{_split(name)[0]}@{step}"


def _split(name: str) -> tuple[str, int | None]:
    path, _, text = name.rpartition("@")
    is_url = name.startswith("gs://")
    if path and text.isdigit() and (is_url or not Path(name).exists()):
        return path, int(text)
    return name, None


def _as_list(texts: str | Sequence[str]) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts
