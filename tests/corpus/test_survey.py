import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.corpus.build import _sample
from bert_jax.corpus.filters.dedup import document_hash
from bert_jax.corpus.filters.heldout import HeldOut, heldout_below
from bert_jax.corpus.readers import files
from bert_jax.corpus.settings import from_config
from bert_jax.corpus.sources import list_bundles
from bert_jax.corpus.survey import Column, survey
from bert_jax.corpus.tokenizers.load import load_tokenizer
from tests.corpus.corpora import build_store, documents, tiny_config, write_text
from tests.corpus.store.test_arrays import documents_of

TEXTS = documents(120)


def survey_of(directory, texts, sample_bytes=10_000, **fields):
    directory.mkdir()
    config = tiny_config(f"text:{write_text(directory / 'a.txt', texts)}", **fields)
    (bundle,) = list_bundles(from_config(config))
    return survey(bundle, directory / "survey", sample_bytes, from_config(config))


@pytest.mark.parametrize("limit", [0, 1, 5_000, 20_000, 10**9])
def test_the_sample_is_bounded_and_has_no_held_out_document(tmp_path, limit):
    sample = list(survey_of(tmp_path / "a", TEXTS, limit, corpus_heldout_fraction=0.5).sample())
    train = [text for text in TEXTS if document_hash(text) >= heldout_below(0.5)]
    train.sort(key=document_hash)  # the sample takes the lowest hashes
    sizes = [sum(len(paragraph.encode()) for paragraph in text) for text in train]
    taken = sum(int(before < limit) for before in np.cumsum([0, *sizes[:-1]]))
    assert sample == train[:taken]
    assert taken < len(train) or limit == 10**9


def test_the_tokenizer_is_not_trained_on_the_floor_of_held_out_documents(tmp_path):
    found = survey_of(tmp_path / "a", TEXTS, 10**9)
    trained = sorted(found.sample(), key=document_hash)
    heldout = HeldOut(heldout_below(0.2), start=document_hash(trained[-5]))
    paragraphs = [paragraph for text in trained[:-5] for paragraph in text]
    assert list(_sample([found], heldout)) == list(dict.fromkeys(paragraphs))


@given(st.permutations(range(40)))
@settings(max_examples=10, deadline=None)
def test_the_sample_does_not_depend_on_the_order(tmp_path_factory, order):
    directory = tmp_path_factory.mktemp("order")
    texts = TEXTS[:40]
    ordered = survey_of(directory / "a", texts, 4000)
    shuffled = survey_of(directory / "b", [texts[i] for i in order] + texts[:3], 4000)
    assert list(shuffled.sample()) == list(ordered.sample())


@given(
    order=st.permutations(range(40)),
    borders=st.sets(st.integers(1, 39), max_size=4),
    fraction=st.sampled_from([0.2, 0.5]),
)
@settings(max_examples=5, deadline=None)
def test_the_split_of_a_document_depends_on_its_text_alone(
    tmp_path_factory, order, borders, fraction
):
    directory = tmp_path_factory.mktemp("split")
    texts = documents(40, seed=9)
    ends = [*sorted(borders), 40]
    for begin, end in zip([0, *ends], ends, strict=False):
        write_text(directory / "text" / f"{end:02d}.txt", [texts[i] for i in order[begin:end]])
    config = tiny_config(
        f"text:{directory}/text",
        corpus_split_sentences=False,
        corpus_heldout_fraction=fraction,
        tokenizer_vocab_size=60,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "range_bytes", lambda total: total // 2)
        store = build_store(config, directory / "store")
    tokenizer = load_tokenizer(store.tokenizer_directory)
    found = {
        tuple(tokenizer.decode(ids) for ids in document)
        for shard in store.split("heldout").shards
        for document in documents_of(shard)
    }
    below = heldout_below(fraction)
    assert found == {tuple(text) for text in texts if document_hash(text) < below}


def test_findings_are_mapped_and_no_file_stays_open(tmp_path):
    filled = survey_of(tmp_path / "a", TEXTS[:5], corpus_near_duplicates=0.8)
    empty = survey_of(tmp_path / "b", TEXTS[:5], corpus_minimum_characters=10**6)
    names = ("document_hashes", "paragraph_hashes", "paragraph_counts", "paragraph_lengths")
    before = len(os.listdir("/proc/self/fd"))
    for name in names:
        column = Column([filled, empty] * 50, name)
        assert isinstance(column[0], np.memmap)
        assert [len(array) for array in column][:2] == [len(getattr(filled, name)), 0]
        assert len(os.listdir("/proc/self/fd")) == before
    assert isinstance(filled.signatures, np.memmap)
