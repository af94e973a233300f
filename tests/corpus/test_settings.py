import math

import pytest

from bert_jax.common.errors import UserError
from bert_jax.corpus.settings import from_config
from tests.corpus.corpora import tiny_config


@pytest.mark.parametrize(
    ("field", "value", "fix"),
    [
        ("corpus_near_duplicates", 80.0, "from 0 to 1"),
        ("corpus_near_duplicates", math.nan, "from 0 to 1"),
        ("corpus_heldout_fraction", -0.1, "from 0 to 1"),
        ("corpus_minimum_characters", -1, "from 0 on"),
        ("corpus_workers", -2, "from 0 on"),
        ("tokenizer_vocab_size", 0, "from 1 on"),
        ("tokenizer_character_coverage", 99.95, "from 0.98 to 1"),
        ("tokenizer_sample_bytes", 0, "from 1 on"),
    ],
)
def test_numbers_out_of_their_range_are_refused(field, value, fix):
    name = f"config.{field.replace('_', '.', 1)}={value}: write a number {fix}"
    with pytest.raises(UserError) as error:
        from_config(tiny_config("docs:", **{field: value}))
    assert str(error.value) == name


@pytest.mark.parametrize(
    ("field", "value"),
    [("corpus_near_duplicates", 1.0), ("corpus_heldout_fraction", 0.0), ("corpus_workers", 0)],
)
def test_the_ends_of_a_range_belong_to_it(field, value):
    from_config(tiny_config("docs:", **{field: value}))


@pytest.mark.parametrize("code", ["english", "xx", "EN", ""])
def test_an_unknown_language_is_refused_with_the_known_ones(code):
    with pytest.raises(UserError, match=rf"language='{code}' is not a known .* de, en, .*xmf"):
        from_config(tiny_config("docs:", corpus_language=code))
    with pytest.raises(UserError, match=rf"options: docs:: language='{code}'|cannot be read"):
        from_config(tiny_config("docs:", corpus_options=f"docs:: language={code}"))
    from_config(tiny_config("docs:", corpus_language="zh-hant"))
