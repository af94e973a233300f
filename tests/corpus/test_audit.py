import json
import math
import re

import numpy as np
import pytest

from bert_jax.corpus.audit import count, entropy
from bert_jax.corpus.filters import cleaning
from bert_jax.corpus.readers import text
from tests import browser
from tests.corpus.corpora import build_store, documents, tiny_config, write_text
from tests.corpus.store.test_arrays import documents_of

TEXTS = documents(150)


def facts_of(tmp_path, texts, **fields):
    source = f"text:{write_text(tmp_path / 'a.txt', texts)}"
    build_store(tiny_config(source, **fields), tmp_path / "store")
    return json.loads((tmp_path / "store" / "report.json").read_text())


def test_figures_are_those_of_a_slow_count(tmp_path):
    source = f"text:{write_text(tmp_path / 'a.txt', TEXTS)}"
    store = build_store(tiny_config(source), tmp_path / "store")
    shard = store.split("train").shards[0]
    found = documents_of(shard)
    figures = count(tmp_path / "store" / "train" / "00000", store.vocabulary)
    ids = [id for document in found for sentence in document for id in sentence]
    assert figures.frequencies.tolist() == [ids.count(id) for id in range(200)]
    lengths = [len(sentence) for document in found for sentence in document]
    assert figures.sentence_lengths[:128].tolist() == [lengths.count(n) for n in range(128)]
    sizes = [sum(map(len, document)) for document in found]
    assert figures.longest_document == max(sizes)
    assert figures.document_lengths[6] == sum(64 <= size < 128 for size in sizes)


def test_entropy_is_in_nats():
    assert entropy(np.full(8, 1 / 8)) == pytest.approx(math.log(8))
    assert entropy(np.array([1.0, 0.0])) == 0


def test_the_report_shows_what_is_in_the_corpus(tmp_path):
    facts = facts_of(tmp_path, [["<script>alert(1)</script> " * 3], *TEXTS, TEXTS[0]])
    page = (tmp_path / "store" / "report.html").read_text()
    assert "<script>alert" not in page
    assert page.count('<figure class="chart">') == 3
    assert '<p class="fine">No warnings.</p>' in page
    assert f"<b>{facts['splits']['train']['tokens']:,}</b>" in page
    assert facts["warnings"] == []
    assert facts["removed"]["duplicate_documents"] == 1
    assert facts["repeated"][0]["times"] == 2
    assert facts["repeated"][0]["text"] == TEXTS[0][0][:200]
    assert len(facts["samples"]) == 5
    source = facts["sources"][0]
    for split in ("train", "heldout"):
        for name, value in source[split].items():
            assert facts["splits"][split][name] == value > 0


@pytest.mark.slow
@pytest.mark.parametrize("viewport", [browser.PHONE, browser.DESKTOP], ids=["phone", "desktop"])
def test_a_browser_draws_the_report(chromium, tmp_path, viewport):
    facts_of(tmp_path, [["word" * 60], *TEXTS, TEXTS[0]])
    with browser.opened(chromium, tmp_path / "store" / "report.html", viewport=viewport) as opened:
        assert len(browser.drawn_pixels(opened)) == 3
        assert min(browser.drawn_pixels(opened)) > 500
        assert not browser.scrolls_sideways(opened)


def test_sources_are_totalled(tmp_path):
    for number in range(4):
        write_text(tmp_path / "ab"[number // 2] / f"{number}.txt", TEXTS[number * 30 :][:30])
    config = tiny_config(f"first=text:{tmp_path}/a + second=text:{tmp_path}/b")
    store = build_store(config, tmp_path / "store")
    facts = json.loads((tmp_path / "store" / "report.json").read_text())
    assert list(facts["by_source"]) == ["first", "second"]
    for index, (name, own) in enumerate(facts["by_source"].items()):
        files = facts["sources"][2 * index : 2 * index + 2]
        assert [file["source"] for file in files] == [name] * 2
        for split in ("train", "heldout"):
            shards = store.split(f"{split}/{name}")
            assert own[split] == {
                "documents": shards.num_documents,
                "sentences": shards.num_sentences,
                "tokens": shards.num_tokens,
            }
            assert own[split]["tokens"] == sum(file[split]["tokens"] for file in files)
    page = (tmp_path / "store" / "report.html").read_text()
    assert f'<td>second</td><td class="number">{own["train"]["documents"]}</td>' in page


def test_a_good_corpus_gives_no_warning(tmp_path):
    assert facts_of(tmp_path, TEXTS)["warnings"] == []


@pytest.mark.parametrize(
    ("texts", "fields", "warning"),
    [
        (
            [[*texts, "中文"[i % 2]] for i, texts in enumerate(TEXTS)],
            {"tokenizer_character_coverage": 0.99},
            "tokens are unknown: raise config.tokenizer.character_coverage",
        ),
        (
            [*TEXTS[:20], [" ".join(p) for p in documents(400, seed=7)]],
            {"corpus_heldout_fraction": 0.3},
            "one document holds 9.% of the text",
        ),
        (
            [[*texts, "Subscribe to our newsletter for more. " * 12] for texts in TEXTS],
            {"corpus_deduplicate": False},
            "of the text is paragraphs that occur more than once: turn on config.corpus.dedup",
        ),
        (
            [[paragraph] for texts in documents(300) for paragraph in texts[:1]],
            {"corpus_split_sentences": False, "stream_objective": "sop"},
            r"1.0 sentences on average, .* needs 2: .*, and turn on config.corpus.split_sent",
        ),
        (
            TEXTS[:30],
            {"corpus_heldout_fraction": 0.001},
            "only 3 documents with .* tokens are held out, so evaluation will be inaccurate: raise",
        ),
        (
            TEXTS[:60],
            {"tokenizer_vocab_size": 600},
            "of the 600 tokens of the vocabulary occur less than 10 times: use a smaller",
        ),
    ],
)
def test_what_ruins_runs_is_warned_of(tmp_path, texts, fields, warning, capsys):
    facts = facts_of(tmp_path, texts, **fields)
    assert len(facts["warnings"]) == 1
    assert_matches(facts["warnings"][0], warning)
    assert facts["warnings"][0] in capsys.readouterr().err


def test_short_documents_matter_to_pairs_only_but_to_those_whenever_the_store_was_made(
    tmp_path, capsys
):
    texts = [[paragraph] for texts in documents(300) for paragraph in texts[:1]]
    fields = {"corpus_split_sentences": False}
    assert facts_of(tmp_path, texts, **fields)["warnings"] == []
    assert "warning" not in capsys.readouterr().err
    config = tiny_config(f"text:{tmp_path}/a.txt", stream_objective="nsp", **fields)
    build_store(config, tmp_path / "store")
    assert "warning: a document has 1.0 sentences on average" in capsys.readouterr().err


@pytest.mark.parametrize("end", ["", "\r", "  much  space" + "  " * 40])
def test_cut_documents_are_warned_of(tmp_path, monkeypatch, end):
    monkeypatch.setattr(cleaning, "MAX_DOCUMENT", 5000)
    monkeypatch.setattr(text, "MAX_DOCUMENT", 5000)
    monkeypatch.setattr("bert_jax.corpus.survey.MAX_DOCUMENT", 5000)
    long = [paragraph + end for texts in documents(50, seed=3) for paragraph in texts]
    facts = facts_of(tmp_path, [*TEXTS, long])
    length = sum(map(len, long))
    assert length // 6000 <= facts["changed"]["cut_documents"] <= length // 5000
    assert_matches(facts["warnings"][0], "and were cut there: documents are separated by blank")


def assert_matches(text, pattern):
    assert re.search(pattern, text), text
