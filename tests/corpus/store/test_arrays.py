import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.corpus.store import Shard
from bert_jax.corpus.store.arrays import ArrayWriter, ShardWriter
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    size=100,
    pad_id=0,
    unk_id=1,
    cls_id=2,
    sep_id=3,
    mask_id=4,
    is_special=np.arange(100) < 5,
    starts_word=np.arange(100) >= 5,
)

sentence = st.lists(st.integers(5, 99), max_size=5)
batches = st.lists(st.lists(st.lists(sentence, max_size=4), max_size=4), max_size=4)


def test_an_array_written_in_pieces_is_the_array(tmp_path):
    writer = ArrayWriter(tmp_path / "a.npy", np.uint16)
    for piece in (np.arange(3), np.arange(0), np.arange(300, 1500)):
        writer.append(piece)
    writer.close()
    expected = np.concatenate([np.arange(3), np.arange(300, 1500)]).astype(np.uint16)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), expected)


@given(batches)
@settings(max_examples=100, deadline=None)
def test_a_shard_gives_back_its_documents_and_sentences(tmp_path_factory, batches):
    directory = tmp_path_factory.mktemp("shard") / "00000"
    with ShardWriter(directory, VOCABULARY) as writer:
        for documents in batches:
            writer.append(
                [np.array(ids, np.int32) for sentences in documents for ids in sentences],
                np.array([len(sentences) for sentences in documents], np.int64),
            )
    with_text = [
        [ids for ids in sentences if ids]
        for documents in batches
        for sentences in documents
        if any(sentences)
    ]
    assert writer.num_documents == len(with_text)
    assert writer.num_tokens == sum(2 + sum(map(len, sentences)) for sentences in with_text)
    if not with_text:
        return  # an empty file cannot be mapped; such shards do not enter a store
    assert documents_of(Shard.open(directory)) == with_text


def documents_of(shard: Shard) -> list[list[list[int]]]:
    """Reads a shard slowly, by the words of its docstring."""
    documents = []
    for d in range(shard.num_documents):
        begin, end = shard.document_offsets[d : d + 2]
        framed = shard.tokens[begin:end].tolist()
        assert framed[0] == VOCABULARY.cls_id
        assert framed[-1] == VOCABULARY.sep_id
        first, last = shard.document_sentences[d : d + 2]
        starts = [*shard.sentence_offsets[first:last].tolist(), int(end) - 1]
        documents.append([shard.tokens[a:b].tolist() for a, b in itertools.pairwise(starts)])
    return documents
