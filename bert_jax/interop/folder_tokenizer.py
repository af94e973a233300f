"""Opens the tokenizer of a published model with the ids that the model was trained on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers import hugging_face, sentencepiece
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.wordpiece import open_vocabulary

VOCABULARY, BYTE_LEVEL = "vocab.txt", ("vocab.json", "merges.txt")
CONFIG = "tokenizer_config.json"


def open_folder_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder: its `tokenizer.json`, else its vocabulary in an older format.

    Raises:
      UserError: the folder has no tokenizer that can be read, or it lacks special tokens.
    """
    openers: dict[str, Callable[[Path], Tokenizer]] = {
        hugging_face.FILE: _open_json,
        VOCABULARY: open_wordpiece,
        BYTE_LEVEL[1]: _open_byte_level,
        sentencepiece.MODEL: _open_sentencepiece,
        "spiece.model": _open_sentencepiece,
    }
    for name, open_file in openers.items():
        if (folder / name).is_file():
            return open_file(folder / name)
    raise UserError(
        f"{folder} holds no tokenizer: none of {', '.join(openers)} is there; put the one there "
        "that the model was trained with (AutoTokenizer's save_pretrained writes tokenizer.json)"
    )


def _open_json(path: Path) -> Tokenizer:
    return hugging_face.HuggingFaceTokenizer.open(path)


def _open_sentencepiece(path: Path) -> Tokenizer:
    return sentencepiece.SentencePieceTokenizer.open(path)


def open_wordpiece(path: Path) -> Tokenizer:
    """A `vocab.txt`, with the case that the `tokenizer_config.json` beside it says.

    Where there is none, the vocabulary is of lower case if no token has an upper-case letter.
    """
    values = _config(path.parent)
    pieces = path.read_text(encoding="utf-8", errors="replace").split("\n")
    has_upper = any(piece != piece.lower() for piece in pieces if not piece.startswith("["))
    lowercase = values.get("do_lower_case", not has_upper)
    strips = values.get("strip_accents")
    accents = "auto" if strips is None else "yes" if strips else "no"
    return open_vocabulary(path, lowercase, accents)


def _open_byte_level(path: Path) -> Tokenizer:
    """GPT-2's format, which RoBERTa has: tokens in `vocab.json`, their merges in `merges.txt`."""
    vocabulary = path.with_name(BYTE_LEVEL[0])
    if not vocabulary.is_file():
        raise UserError(f"{vocabulary} is missing: it belongs to {path}")
    try:
        model = models.BPE.from_file(str(vocabulary), str(path), unk_token="<unk>")
        known = json.loads(vocabulary.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises no subclass
        raise UserError(f"{vocabulary} and {path} are no byte-level tokenizer: {error}") from error
    tokenizer = tokenizers.Tokenizer(model)
    prefix = _config(path.parent).get("add_prefix_space", False)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [piece for piece in ("<s>", "<pad>", "</s>", "<unk>", "<mask>") if piece in known]
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False) for piece in specials])
    return hugging_face.HuggingFaceTokenizer(tokenizer, str(path))


def _config(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{folder / CONFIG} is no JSON: {error}") from error
    return values if isinstance(values, dict) else {}
