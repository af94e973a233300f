"""Tokenizers that are brought along: which class reads a file is told by its name."""

from pathlib import Path

from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.hugging_face import HuggingFaceTokenizer
from bert_jax.corpus.tokenizers.sentencepiece import SentencePieceTokenizer


def open_tokenizer(path: Path, lowercase: bool) -> Tokenizer:
    """A sentencepiece model, a `vocab.txt`, a `tokenizer.json`, or a directory of a run's own.

    Raises:
      UserError: the file is not there, is not what its name says, or lacks special pieces.
    """
    if path.is_dir():
        return Tokenizer.load(path)
    match path.suffix:
        case ".txt":
            return HuggingFaceTokenizer.from_vocabulary(path, lowercase)
        case ".json":
            return HuggingFaceTokenizer.open(path, lowercase)
        case _:
            return SentencePieceTokenizer.open(path, lowercase)
