"""Words as pieces: where each piece begins, also where the tokenizer changes the text."""

import pytest

from bert_jax.corpus.tokenizers.load import open_tokenizer
from bert_jax.tasks.words import WordEncoder

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = ["東", "京", "は", "大", "caf", "##e", "##s", "un", "##known"]


@pytest.mark.parametrize(
    ("word", "starts"),
    [
        ("東京は大", [0, 1, 2, 3]),
        ("東½京", [0, 1, 2]),  # ½ is unknown, and decoding leaves it out
        ("東京½", [0, 1, 2]),
        ("Cafés", [0, 3, 4]),  # without accents and in lower case in the vocabulary
        ("unknown", [0, 2]),
    ],
)
def test_pieces_begin_at_their_characters(word, starts, tmp_path):
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join([*SPECIAL, *PIECES]) + "\n")
    encoder = WordEncoder(open_tokenizer(vocabulary, lowercase=True))
    encoder.learn([word])
    assert encoder.starts(word) == starts
