"""WordPiece as in BERT, trained or by a published vocab.txt.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805.
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import (
    JOINERS,
    SPECIAL_TOKENS,
    VocabularyTooLargeError,
    special_ids,
    vocabulary_too_small,
)
from bert_jax.corpus.tokenizers.hugging_face import HuggingFaceTokenizer
from bert_jax.corpus.tokenizers.settings import TokenizerSettings
from bert_jax.corpus.tokenizers.text_files import read_utf8

STRIPS_ACCENTS = {"auto": None, "yes": True, "no": False}  # None: as `lowercase`

# What BERT's cleaning removes, joiners excepted.
_REMOVED = r"(?![\t\n\r\u200c\u200d])[\p{Cc}\p{Cf}\p{Co}\ufffd]"


def open_vocabulary(
    path: Path, lowercase: bool, strip_accents: str = "auto"
) -> HuggingFaceTokenizer:
    """The WordPiece tokenizer of a BERT vocabulary, a token a line.

    Raises:
      UserError: there is no such file, it is not UTF-8, lacks a special token, or has no upper-case
        letters while `lowercase` is off.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: there is no vocab.txt")
    text = read_utf8(path)
    lines = [line.rstrip("\r") for line in text.split("\n" if "\n" in text else "\r")]
    ids = {line: id for id, line in enumerate(lines) if line}
    special_ids(ids, str(path))
    if not lowercase and not any(re.match(r"[A-Z]", token) for token in ids):
        raise UserError(
            f"{path} has no token with an upper-case letter: it is an uncased vocabulary, set "
            "config.tokenizer.lowercase=True"
        )
    normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=STRIPS_ACCENTS[strip_accents]
    )
    model = models.WordPiece(ids, unk_token="[UNK]")
    return HuggingFaceTokenizer(_wordpiece(model, normalizer), str(path))


def train(paragraphs: list[str], settings: TokenizerSettings) -> HuggingFaceTokenizer:
    """A WordPiece tokenizer with `settings.vocab_size` tokens, the special ones at ids 0...4.

    Raises:
      UserError: the text is too small or too varied for the vocabulary.
    """
    joiners = [joiner for joiner in JOINERS if any(joiner in text for text in paragraphs)]
    normalizer = _normalizer(settings, keep_joiners=bool(joiners))
    tokenizer = _wordpiece(models.WordPiece({}, unk_token="[UNK]"), normalizer)
    alphabet = _alphabet(map(normalizer.normalize_str, paragraphs), settings, joiners)
    # The trainer numbers continuing characters in the order of a hash table, which differs between
    # runs, and breaks ties by number. As special tokens they have fixed numbers.
    continuing = [f"##{character}" for character in alphabet]
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=[*SPECIAL_TOKENS, *continuing],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(paragraphs, trainer)
    ids = tokenizer.get_vocab()
    if len(ids) < settings.vocab_size:
        raise VocabularyTooLargeError(settings, len(ids))
    model = models.WordPiece(ids, unk_token="[UNK]")
    return HuggingFaceTokenizer(_wordpiece(model, normalizer), "just trained")


def _wordpiece(model: models.WordPiece, normalizer: normalizers.Normalizer) -> tokenizers.Tokenizer:
    """BERT's tokenizer around a model: words and punctuation apart, Chinese by character."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _normalizer(settings: TokenizerSettings, *, keep_joiners: bool) -> normalizers.Normalizer:
    """BERT's normalization. Its cleaning removes joiners; to keep them, it is spelled out here."""
    bert = normalizers.BertNormalizer(
        clean_text=not keep_joiners,
        lowercase=settings.lowercase,
        strip_accents=STRIPS_ACCENTS[settings.strip_accents],
    )
    if not keep_joiners:
        return bert
    return normalizers.Sequence(
        [
            normalizers.Replace(Regex(_REMOVED), ""),
            normalizers.Replace(Regex(r"\s"), " "),
            bert,
        ]
    )


def _alphabet(texts: Iterable[str], settings: TokenizerSettings, joiners: list[str]) -> list[str]:
    """The characters that make up `character_coverage` of the texts, and `joiners`, sorted.

    Raises:
      UserError: they alone fill the vocabulary.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    del counts[" "]
    by_frequency = sorted(counts, key=lambda character: (-counts[character], character))
    covered = np.cumsum([counts[character] for character in by_frequency])
    count = 1 + int(np.searchsorted(covered, settings.character_coverage * covered[-1]))
    alphabet = sorted({*by_frequency[:count], *joiners})
    needed = len(SPECIAL_TOKENS) + 2 * len(alphabet)
    if settings.vocab_size < needed:
        raise vocabulary_too_small(settings, needed)
    return alphabet
