"""What a fine-tuning starts from: a pretrained encoder, or the architecture of one alone."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from bert_jax.common.errors import UserError
from bert_jax.config import load_config, parse
from bert_jax.corpus.tokenizers.base import Tokenizer, VocabularyTooLargeError
from bert_jax.corpus.tokenizers.load import open_tokenizer, train_tokenizer
from bert_jax.corpus.tokenizers.settings import TokenizerSettings
from bert_jax.model import ModelConfig, Params
from bert_jax.run import pretrained

RANDOM = "random:"


@dataclasses.dataclass(frozen=True)
class Start:
    """An encoder; `params` is None where they are drawn at random."""

    model: ModelConfig
    params: Params | None
    tokenizer: Tokenizer


def load_start(init: str, texts: Callable[[], Iterable[str]]) -> Start:
    """What `config.init` names.

    Args:
      init: a workdir, a folder of transformers, or `random:` and one of these or a config file.
      texts: of the training examples, for the tokenizer of a config file that names none.

    Raises:
      UserError: there is no such encoder.
    """
    if not init.startswith(RANDOM):
        found = pretrained.load(init, flag="config.init")
        return Start(found.config, found.params, found.tokenizer)
    name = init.removeprefix(RANDOM)
    path, _, argument = name.partition(":")
    if not path.endswith(".py"):
        found = pretrained.load(name, flag="config.init")
        return Start(found.config, None, found.tokenizer)
    if not Path(path).is_file():
        raise UserError(f"config.init={init}: {path} does not exist")
    settings = parse(load_config(path, argument))
    tokenizer = _tokenizer(settings.corpus.tokenizer, texts)
    return Start(settings.model_config(tokenizer.vocabulary.size), None, tokenizer)


def _tokenizer(settings: TokenizerSettings, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    if settings.path:
        return open_tokenizer(Path(settings.path), settings.lowercase, settings.strip_accents)
    samples = list(texts())
    size = settings.vocab_size
    while True:  # a task's texts are fewer than a corpus: as many tokens as they give
        try:
            return train_tokenizer(samples, dataclasses.replace(settings, vocab_size=size))
        except VocabularyTooLargeError as error:
            size = error.largest
