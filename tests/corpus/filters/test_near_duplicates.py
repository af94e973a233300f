import random

import numpy as np
import pytest

from bert_jax.corpus.filters import near_duplicates as module
from bert_jax.corpus.filters.near_duplicates import near_duplicates, signature, similarity
from tests.corpus.corpora import WORDS, build_store, documents, tiny_config, write_text


def text(words):
    return [" ".join(words)]


@pytest.mark.parametrize("changed", [0, 3, 20, 60])
def test_similarity_is_the_jaccard_index_of_the_shingles(changed):
    choose = random.Random(changed)
    words = choose.choices(WORDS, k=600)
    other = list(words)
    for at in choose.sample(range(600), changed):
        other[at] = "otherwise"
    sets = [set(module._shingles(" ".join(text))) for text in (words, other)]
    jaccard = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    estimate = similarity(signature(text(words))[None], signature(text(other))[None])[0]
    deviation = (jaccard * (1 - jaccard) / module.PERMUTATIONS) ** 0.5
    assert abs(estimate - jaccard) <= 4 * deviation


def test_text_without_spaces_has_shingles_of_characters():
    assert module._shingles("\u6cb3" * 30) == ["\u6cb3" * 8] * 23
    assert module._shingles("one two") == ["one two"]


def test_later_copies_are_found_in_every_part(monkeypatch):
    texts = [paragraphs for paragraphs in documents(60) if sum(map(len, paragraphs)) > 500]
    copies = [[*paragraphs[:-1], paragraphs[-1] + " Added."] for paragraphs in texts[:10]]
    parts = [np.stack(list(map(signature, part))) for part in (texts, copies)]
    monkeypatch.setattr(module, "_PAIRS_AT_ONCE", 3)
    everything = [np.ones(len(part), bool) for part in parts]
    first, second = near_duplicates(parts, 0.8, everything)
    assert not first.any()
    assert second.all()
    assert [mask.sum() for mask in near_duplicates(parts[::-1], 0.8, everything[::-1])] == [0, 10]
    used = [np.arange(len(texts)) >= 4, everything[1]]
    first, second = near_duplicates(parts, 0.8, used)
    assert not first.any()
    assert second.tolist() == [False] * 4 + [True] * 6


def test_near_duplicates_are_removed_and_counted(tmp_path):
    texts = documents(150)
    copies = [[*text[:-1], text[-1] + " Added."] for text in texts if len(" ".join(text)) > 800][:9]
    path = write_text(tmp_path / "a.txt", [*texts, *copies])
    config = tiny_config(f"text:{path}", corpus_near_duplicates=0.8)
    manifest = build_store(config, tmp_path / "store").manifest
    assert manifest["removed"]["near_duplicates"] == len(copies) == 9
    counts = manifest["splits"]
    assert counts["train"]["documents"] + counts["heldout"]["documents"] == 150
