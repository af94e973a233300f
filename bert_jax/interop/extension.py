"""Adds words to the tokenizer of a pretrained model."""

import json
from collections.abc import Iterable

import tokenizers
from tokenizers import AddedToken

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.hugging_face import HuggingFaceTokenizer


def extend(tokenizer: Tokenizer, words: Iterable[str]) -> HuggingFaceTokenizer:
    """The tokenizer with `words` as tokens after its own; those that it has are left as they are.

    A word joins a WordPiece vocabulary, so that its endings continue it (`biomarker`, `##s`). Words
    of other models, and those that the tokenizer cuts at punctuation, become added tokens, which
    are found where they stand alone.

    Raises:
      UserError: the tokenizer is of sentencepiece, whose models cannot take words later, or a word
        cannot become a token, as its text is read in another way.
    """
    if not isinstance(tokenizer, HuggingFaceTokenizer):
        raise UserError(
            "--add_tokens extends WordPiece vocabularies and files tokenizer.json, and this "
            "tokenizer is of sentencepiece: train a new one and give it with --vocabulary"
        )
    plain = tokenizer.reading_specials()
    normalize = plain.normalizer.normalize_str if plain.normalizer else str
    wanted = dict.fromkeys(normalize(word.strip()).strip() for word in words)
    new = [word for word in wanted if word and plain.token_to_id(word) is None]
    if not new:
        raise UserError("--add_tokens names no word that is not a token yet")
    values = json.loads(plain.to_str())
    added = new
    if values["model"]["type"] == "WordPiece":
        added = [word for word in new if not _is_one_word(plain, word)]
        size = plain.get_vocab_size(with_added_tokens=True)
        whole = (word for word in new if word not in added)
        values["model"]["vocab"] |= {word: size + index for index, word in enumerate(whole)}
    extended = tokenizers.Tokenizer.from_str(json.dumps(values))
    extended.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in added])
    result = HuggingFaceTokenizer(extended, "extended")
    ids = result.encode(new)
    unread = [word for word, of_word in zip(new, ids, strict=True) if len(of_word) != 1]
    if unread:
        raise UserError(
            f"--add_tokens: {', '.join(map(repr, unread[:5]))} cannot become tokens: the "
            "tokenizer reads their text in another way; leave them out"
        )
    return result


def _is_one_word(tokenizer: tokenizers.Tokenizer, word: str) -> bool:
    cutter = tokenizer.pre_tokenizer
    return cutter is None or len(cutter.pre_tokenize_str(word)) == 1
