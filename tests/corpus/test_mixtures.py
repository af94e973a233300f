import json
import os
import subprocess
import sys

import pyarrow
import pytest
from pyarrow import parquet

from bert_jax.common.atomic import write_json
from bert_jax.common.errors import UserError
from bert_jax.config import default_config
from bert_jax.corpus.filters.sentences import split_sentences
from bert_jax.corpus.readers import files
from bert_jax.corpus.settings import from_config, parse_options
from bert_jax.corpus.sources import Source, parse
from bert_jax.corpus.store import TokenStore
from tests.corpus.corpora import build_store, documents, tiny_config, write_text


def test_a_mixture_is_parsed():
    assert parse("docs:") == [Source("docs:", "docs", "", 1.0)]
    assert parse("text:a+b/*.txt + web=0.25*jsonl:c=d:e + my-docs=docs:") == [
        Source("text:a+b/*.txt", "text", "a+b/*.txt", 1.0),
        Source("web", "jsonl", "c=d:e", 0.25),
        Source("my-docs", "docs", "", 1.0),
    ]


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ("/data/a.txt", "no known kind"),
        (
            "xlsx:a",
            "no known kind.* text:GLOB, jsonl:GLOB, parquet:GLOB, csv:GLOB, tsv:GLOB, tfds:",
        ),
        ("2*text:a", "must be above 0 and at most 1.*config.stream.weights"),
        ("0*text:a", "must be above 0"),
        ("1.2.3*text:a", "must be above 0"),
        ("a=text:a + a=text:b", "two sources with the name 'a'"),
        ("docs: + docs:", "two sources with the name 'docs:'"),
    ],
)
def test_what_is_no_source_is_refused(mixture, message):
    with pytest.raises(UserError, match=message):
        parse(mixture)


@pytest.mark.parametrize(
    ("mixture", "locations"),
    [
        ("text:a + b/*.txt + web=jsonl:c + d", ["a + b/*.txt", "c + d"]),
        ("text:Q&A + extra: notes.txt", ["Q&A + extra: notes.txt"]),
        ("text:a +  0.5*text:b + csv:c", ["a", "b", "c"]),
        ('["text:a + text:b", "c=text:d"]', ["a + text:b", "d"]),
    ],
)
def test_a_plus_may_be_part_of_a_path(mixture, locations):
    assert [source.location for source in parse(mixture)] == locations


def given(source, options=""):
    config = default_config()
    config.corpus.source = source
    config.corpus.options = options
    settings = from_config(config)
    return settings, parse(settings.source), parse_options(settings.options)


def test_sources_may_be_a_list_and_options_a_dict():
    text, sources, _ = given("wiki=text:/w + 0.5*jsonl:/j")
    for value in (
        ["wiki=text:/w", "0.5*jsonl:/j"],
        ("wiki=text:/w", {"source": "jsonl:/j", "share": 0.5}),
        [{"source": "text:/w", "name": "wiki"}, "0.5*jsonl:/j"],
    ):
        assert given(value)[:2] == (text, sources)
    web = {"source": "csv:/a + text:b", "name": "web", "field": "body"}
    options = {"web": {"quoting": "off"}, "docs:": {"language": "en"}}
    settings, sources, found = given([web, "docs:"], options)
    assert sources == [
        Source("web", "csv", "/a + text:b", 1.0),
        Source("docs:", "docs", "", 1.0),
    ]
    assert found == {"web": {"field": "body", "quoting": "off"}, "docs:": {"language": "en"}}
    assert settings.of("web").reading.field == "body"
    assert given(settings.source, settings.options)[0] == settings  # from a config.json
    assert given(web)[2] == {"web": {"field": "body"}}
    assert given("docs:", "docs:: language=de")[2] == {"docs:": {"language": "de"}}


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ([], "", r"config\.corpus\.source=\[\]: write a source, or a list"),
        (5, "", r"config\.corpus\.source=5: write a source"),
        (["text:a", 5], "", "source: 5 is no source; write text, or a dict as in"),
        ([{"name": "web"}], "", "is no source"),
        ("[text:a", "", r"config\.corpus\.source='\[text:a' is no JSON"),
        ([{"source": "text:a", "column": "x"}], "", "'text:a' has no option 'column'; there is: d"),
        (
            [{"source": "text:a", "field": "x"}],
            "text:a: field=y",
            "'field' of 'text:a' is 'y'",
        ),
        ("text:a", ["field=x"], r"config\.corpus\.options=\['field=x'\]: write text, or a dict"),
        ("text:a", {"text:a": "field=x"}, "write text, or a dict as in {'web': {'field': 'body'}}"),
        ("text:a", {"text:a": {"field": 5}}, "field=5 of 'text:a': write a string"),
        (
            "text:a",
            {"text:a": {"bad_records": "drop"}},
            "bad_records='drop': write one of",
        ),
        ("text:a", "{", "is no JSON"),
        ("text:a", '{"text:a": 5}', "write text, or a dict as in"),
    ],
)
def test_sources_and_options_of_other_types_are_refused(source, options, message):
    with pytest.raises(UserError, match=message):
        given(source, options)


def test_a_store_of_a_list_is_that_of_the_text(tmp_path):
    first = write_text(tmp_path / "first.txt", documents(60))
    second = write_text(tmp_path / "second.txt", documents(60, seed=5))
    build_store(tiny_config(f"a=text:{first} + text:{second}"), tmp_path / "store")
    build_store(tiny_config([f"a=text:{first}", f"text:{second}"]), tmp_path / "store")  # opens it


def test_bad_records_are_counted_among_the_removed_documents(tmp_path):
    rows = "".join(f'"{" ".join(text)}"\n' for text in documents(80))
    (tmp_path / "a.csv").write_text(f"text\n{rows}one,two\n")
    config = tiny_config(f"csv:{tmp_path}/a.csv", corpus_bad_records="skip")
    manifest = build_store(config, tmp_path / "store").manifest
    assert manifest["removed"]["bad_records"] == 1
    assert manifest["documents_read"] == 81
    assert sum(split["documents"] for split in manifest["splits"].values()) == 80
    config.corpus.bad_records = "refuse"
    with pytest.raises(UserError, match="bad_records is 'skip' there and 'refuse' here"):
        build_store(config, tmp_path / "store")


def test_a_store_made_before_a_setting_existed_is_opened(tmp_path):
    path = write_text(tmp_path / "a.txt", documents(60))
    config = tiny_config(f"text:{path}")
    store = build_store(config, tmp_path / "store")
    for name in ("bad_records", "quoting"):
        del store.manifest["settings"]["reading"][name]
    write_json(store.directory / "manifest.json", store.manifest)
    build_store(config, tmp_path / "store")
    config.corpus.bad_records = "skip"
    with pytest.raises(UserError, match="bad_records is 'refuse' there and 'skip' here"):
        build_store(config, tmp_path / "store")


def test_a_store_that_lists_two_links_to_a_file_is_opened(tmp_path):
    path = write_text(tmp_path / "texts" / "a.txt", documents(60))
    (tmp_path / "texts" / "b.txt").symlink_to(path)
    config = tiny_config(f"text:{tmp_path}/texts")
    store = build_store(config, tmp_path / "store")
    (first,) = store.manifest["sources"]
    store.manifest["sources"].append(first | {"name": f"{tmp_path}/texts/b.txt"})
    write_json(store.directory / "manifest.json", store.manifest)
    build_store(config, tmp_path / "store")


def test_every_source_is_kept_once_and_its_shards_are_known(tmp_path):
    first = write_text(tmp_path / "first.txt", documents(150))
    second = write_text(tmp_path / "second.txt", documents(400, seed=5))
    mixture = f"wiki=text:{first} + web=0.5*text:{second}"
    store = build_store(tiny_config(mixture), tmp_path / "store")
    plain = build_store(tiny_config(f"text:{first} + text:{second}"), tmp_path / "plain")
    train, full = store.split("train"), plain.split("train")
    assert train.sources == store.split("heldout").sources == ("wiki", "web")
    assert full.sources == (f"text:{first}", f"text:{second}")
    assert [file["source"] for file in store.manifest["sources"]] == ["wiki", "web"]
    assert train.shards[0].num_documents == full.shards[0].num_documents
    share = train.shards[1].num_documents / full.shards[1].num_documents
    assert 0.4 < share < 0.6
    assert store.manifest["removed"]["documents_not_sampled"] > 150
    assert store.fingerprint != plain.fingerprint


def test_the_fingerprint_tells_which_shards_are_of_one_source_but_not_its_name(
    tmp_path, monkeypatch
):
    for name in ("a", "b"):
        write_text(tmp_path / "texts" / f"{name}.txt", documents(60, seed=ord(name)))
    sizes = [path.stat().st_size for path in (tmp_path / "texts").iterdir()]
    monkeypatch.setattr(files, "range_bytes", lambda total: max(sizes))  # two shards
    a, b = (f"text:{tmp_path}/texts/{name}.txt" for name in "ab")
    mixtures = [f"{a} + {b}", f"x={a} + y={b}", f"text:{tmp_path}/texts/*.txt"]
    stores = [
        build_store(tiny_config(mixture), tmp_path / f"store{index}")
        for index, mixture in enumerate(mixtures)
    ]
    assert stores[0].fingerprint == stores[1].fingerprint != stores[2].fingerprint
    assert len(stores[2].split("train").sources) == 2


def test_a_file_in_two_sources_is_refused(tmp_path):
    path = write_text(tmp_path / "a.txt", documents(9))
    with pytest.raises(
        UserError, match=r"a\.txt is in text:.* and in text:.*config\.stream\.weights"
    ):
        build_store(tiny_config(f"text:{path} + text:{tmp_path}"), tmp_path / "store")


def test_standard_input_is_a_source(tmp_path):
    """Beside another source, too, whose workers have a standard input of their own."""
    texts = documents(120)
    write_text(tmp_path / "a.txt", texts[:60])
    content = write_text(tmp_path / "b.txt", texts[60:]).read_bytes()
    mixture = f"a=text:{tmp_path / 'a.txt'} + b=text:"
    code = (
        "from tests.corpus.corpora import build_store, tiny_config; "
        f"build_store(tiny_config({mixture + '-'!r}, corpus_workers=2), "
        f"{str(tmp_path / 'store')!r})"
    )
    subprocess.run([sys.executable, "-c", code], input=content, cwd=os.getcwd(), check=True)
    store = TokenStore.open(tmp_path / "store")
    same = build_store(tiny_config(f"{mixture}{tmp_path / 'b.txt'}"), tmp_path / "same")
    assert store.fingerprint == same.fingerprint


@pytest.mark.parametrize(
    ("policy", "documents_left", "cause"),
    [("replace", 121, "replaced_documents"), ("drop", 120, "invalid_documents")],
)
def test_bytes_that_are_not_utf8_are_replaced_or_dropped(tmp_path, policy, documents_left, cause):
    path = write_text(tmp_path / "a.txt", documents(120))
    path.write_bytes(path.read_bytes() + b"\nA bad \xff\xfe byte.\n")
    config = tiny_config(f"text:{path}", corpus_invalid_utf8=policy)
    manifest = build_store(config, tmp_path / "store").manifest
    counts = manifest["splits"]
    assert counts["train"]["documents"] + counts["heldout"]["documents"] == documents_left
    assert (manifest["removed"] | manifest["changed"])[cause] == 1
    config.corpus.invalid_utf8 = "ignore"
    with pytest.raises(UserError, match=r"invalid_utf8='ignore': write one of refuse, replace, dr"):
        build_store(config, tmp_path / "other")


def test_short_documents_are_dropped(tmp_path):
    texts = documents(200)
    path = write_text(tmp_path / "a.txt", texts)
    config = tiny_config(f"text:{path}", corpus_minimum_characters=400)
    manifest = build_store(config, tmp_path / "store").manifest
    short = sum(sum(map(len, text)) < 400 for text in texts)
    assert manifest["removed"]["short_documents"] == short > 10
    counts = manifest["splits"]
    assert counts["train"]["documents"] + counts["heldout"]["documents"] == 200 - short


def test_sources_have_options_of_their_own(tmp_path):
    texts = ["\n".join(text) for text in documents(120)]
    german = "Am {}. Oktober war es kalt. Heute nicht."
    lines = [{"body": german.format(number)} for number in range(60)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    parquet.write_table(pyarrow.table({"text": texts[:60]}), tmp_path / "b.parquet")
    (tmp_path / "c.txt").write_text("\n".join(texts[60:]))
    rows, web = f"parquet:{tmp_path}/b.parquet", f"web=jsonl:{tmp_path}/a.jsonl"
    config = tiny_config(
        f"{web} + {rows} + lines=text:{tmp_path}/c.txt",
        corpus_options="web: field=body, language=de ; lines: documents=line, lines=sentence",
    )
    store = build_store(config, tmp_path / "store")
    web, rows, lines = store.manifest["sources"]
    assert [web["documents"], rows["documents"]] == [60, 60]
    assert lines["documents"] == "\n".join(texts[60:]).count("\n") + 1
    counts = [[source[split] for split in ("train", "heldout")] for source in (web, rows, lines)]
    sentences = [sum(split["sentences"] for split in splits) for splits in counts]
    assert sentences[0] == 2 * 60 < 60 * len(split_sentences(german, "en"))
    assert sentences[1] > 2 * 60
    assert sentences[2] == sum(split["documents"] for split in counts[2])
    config.corpus.options = "lines: documents=line"
    with pytest.raises(UserError, match=r"config\.corpus\.options is 'web: .*' there and 'lines:"):
        build_store(config, tmp_path / "store")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("web: column=body", "'web' has no option 'column'; there is: documents, field, "),
        ("wbe: field=body", "'wbe' is no source of config.corpus.source; there is: web, docs:$"),
        ("web: lines=verse", "web: lines='verse': write one of paragraph, sentence"),
        ("web: documents=page", "web: documents='page': write one of blank_line, line, file"),
        ("web field=body", "'web field=body' cannot be read; write each source once, as in 'web: "),
        ("web: field", "'web: field' cannot be read"),
        ("web: field=a; web: field=b", "'web: field=b' cannot be read"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, message):
    config = tiny_config(f"web=jsonl:{tmp_path} + docs:", corpus_options=options)
    with pytest.raises(UserError, match=f"^config.corpus.options: {message}"):
        build_store(config, tmp_path / "store")
