"""What is removed leaves its copies alone: text is lost only where an equal one stays."""

import json

import pytest

from bert_jax.corpus.tokenizers.load import load_tokenizer
from tests.corpus.corpora import build_store, documents, tiny_config, write_text
from tests.corpus.store.test_arrays import documents_of

TEXTS = documents(150)
LONG = "This paragraph is long enough to be noticed when it is said for a second time."


def stored_texts(store):
    tokenizer = load_tokenizer(store.tokenizer_directory)
    return [
        [tokenizer.decode(ids) for ids in document]
        for split in ("train", "heldout")
        for shard in store.split(split).shards
        for document in documents_of(shard)
    ]


@pytest.mark.parametrize("near_duplicates", [0.0, 0.9])
def test_what_is_not_sampled_removes_no_copy_of_itself(tmp_path, near_duplicates):
    first = write_text(tmp_path / "first.txt", TEXTS)
    second = write_text(tmp_path / "second.txt", TEXTS)
    config = tiny_config(
        f"a=0.1*text:{first} + b=text:{second}",
        corpus_split_sentences=False,
        corpus_near_duplicates=near_duplicates,
    )
    store = build_store(config, tmp_path / "store")
    assert sorted(stored_texts(store)) == sorted(TEXTS)
    removed = store.manifest["removed"]
    assert removed["documents_not_sampled"] + removed["duplicate_documents"] == 150
    assert removed["duplicate_documents"] > 0


def test_a_paragraph_stays_when_its_first_copy_goes_with_its_document(tmp_path):
    with_long = [[*text, LONG] for text in TEXTS[:20]]
    first = write_text(tmp_path / "first.txt", with_long)
    second = write_text(tmp_path / "second.txt", [*TEXTS[20:], ["Alone.", LONG]])
    config = tiny_config(f"a=0.01*text:{first} + text:{second}", corpus_split_sentences=False)
    store = build_store(config, tmp_path / "store")
    assert store.manifest["removed"]["documents_not_sampled"] == 20
    assert store.manifest["removed"]["repeated_paragraphs"] == 0
    assert ["Alone.", LONG] in stored_texts(store)


def test_a_paragraph_stays_when_its_first_copy_is_in_a_near_duplicate(tmp_path):
    long = [text for text in documents(80, seed=3) if len(" ".join(text)) > 1500]
    copies = [[*text, LONG] for text in long[:3]]
    texts = [*TEXTS, *long, *copies, ["Alone.", LONG]]
    config = tiny_config(
        f"text:{write_text(tmp_path / 'a.txt', texts)}",
        corpus_split_sentences=False,
        corpus_near_duplicates=0.8,
    )
    store = build_store(config, tmp_path / "store")
    assert store.manifest["removed"]["near_duplicates"] == len(copies)
    assert store.manifest["removed"]["repeated_paragraphs"] == 0
    assert ["Alone.", LONG] in stored_texts(store)


def test_every_document_that_is_read_is_stored_or_counted_by_cause(tmp_path, monkeypatch):
    for module in ("filters.cleaning", "survey"):
        monkeypatch.setattr(f"bert_jax.corpus.{module}.MAX_DOCUMENT", 6000)
    long = [paragraph for text in documents(24, seed=4) for paragraph in text]
    near = [[*text[:-1], text[-1] + " Added."] for text in TEXTS if len(" ".join(text)) > 900]
    texts = {
        "invalid_documents": ["bad \udcff byte"],
        "empty_documents": [None, "", " \n ", "\x07"],
        "short_documents": ["short"],
        "duplicate_documents": ["\n".join(TEXTS[0]), "\n".join(TEXTS[1])],
        "near_duplicates": ["\n".join(near[0]), "\n".join(near[1])],
        "emptied_documents": [f"{'Other words are here. ' * 20}\n{LONG}", LONG],
        "untokenized_documents": ["\u200b" * 30],
    }
    lines = [{"text": text} for cause in texts for text in texts[cause]]
    lines += [{"text": "\n".join(text)} for text in [*TEXTS, long]]
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "a.jsonl").write_bytes(content.encode("utf-8", "surrogateescape"))
    others = documents(100, seed=8)
    (tmp_path / "b.jsonl").write_text(
        "\n".join(json.dumps({"text": "\n".join(text)}) for text in others)
    )
    config = tiny_config(
        f"jsonl:{tmp_path}/a.jsonl + half=0.5*jsonl:{tmp_path}/b.jsonl",
        corpus_invalid_utf8="drop",
        corpus_minimum_characters=10,
        corpus_near_duplicates=0.8,
    )
    manifest = build_store(config, tmp_path / "store").manifest
    removed = manifest["removed"]
    for cause, dropped in texts.items():
        expected = len(dropped) - (cause == "emptied_documents")
        assert removed[cause] == expected, cause
    assert 30 < removed["documents_not_sampled"] < 70
    cut = manifest["changed"]["cut_documents"]
    assert cut > 0
    assert manifest["documents_read"] == len(lines) + len(others) + cut
    stored = sum(split["documents"] for split in manifest["splits"].values())
    dropped = sum(n for cause, n in removed.items() if cause != "repeated_paragraphs")
    assert manifest["documents_read"] == stored + dropped
