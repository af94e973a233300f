"""Sentence vectors: what pooling says, in the order of the texts, whatever their lengths."""

import dataclasses
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from bert_jax import embed as command
from bert_jax.inference.embed import embed
from bert_jax.interop import parity_outputs
from bert_jax.interop.hugging_face import export
from bert_jax.interop.sentence_transformers import Modules, read_modules, write_modules
from bert_jax.run import pretrained
from tests import commands

EMBED = (command.define_flags, command.main)
TEXTS = ["The module statement.", "", "a", "An exception is raised " * 5, "The module statement."]


@pytest.fixture(scope="module")
def folder(redrawn, tokenizer_directory, tmp_path_factory):
    from tests.encoders import CLASSIC

    out = tmp_path_factory.mktemp("exported") / "hf"
    export(redrawn(CLASSIC), CLASSIC, tokenizer_directory, out)
    return out


def test_the_command_writes_a_vector_for_each_line(folder, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    flags = (f"--workdir={folder}", f"--input={tmp_path / 'texts.txt'}", "--batch_size=2")
    for out in ("x.npy", "x.parquet"):
        done = commands.run(*EMBED, *flags, f"--out={tmp_path / out}")
        assert done.status == 0, done.err
    vectors = np.load(tmp_path / "x.npy")
    table = pq.read_table(tmp_path / "x.parquet").to_pydict()
    assert table["text"] == TEXTS
    np.testing.assert_array_equal(np.array(table["vector"], np.float32), vectors)
    assert vectors.shape == (5, 16)
    np.testing.assert_allclose(vectors[0], vectors[4], atol=1e-5)
    model = pretrained.load(folder)
    alone = [
        next(embed(model.params, model.config, model.tokenizer, [text], batch_size=2))[0]
        for text in TEXTS
    ]
    np.testing.assert_allclose(vectors, alone, atol=1e-5)


def test_a_folder_of_sentence_transformers_says_how_and_flags_win(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "hf")
    write_modules(copy, width=16, pooling="cls", normalize=True, max_length=6)
    assert read_modules(copy) == Modules("cls", True, 6)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    flags = (f"--workdir={copy}", f"--input={tmp_path / 'texts.txt'}", f"--out={tmp_path}/x.npy")
    model = pretrained.load(folder)
    for more, wanted in (
        ((), Modules("cls", True, 6)),
        (("--pooling=mean", "--nonormalize", "--max_length=9"), Modules("mean", False, 9)),
    ):
        done = commands.run(*EMBED, *flags, *more)
        assert done.status == 0, done.err
        parts = model.embed_batches(TEXTS, **dataclasses.asdict(wanted))
        np.testing.assert_allclose(np.load(tmp_path / "x.npy"), np.concatenate([*parts]), atol=1e-5)

    # As versions before 6 write it, and a pooling that we do not have.
    (copy / "sentence_bert_config.json").write_text('{"max_seq_length": 7}')
    for name, pooling in (("mean_tokens", "mean"), ("cls_token", "cls"), ("max_tokens", "")):
        config = {"word_embedding_dimension": 16, f"pooling_mode_{name}": True}
        (copy / "1_Pooling" / "config.json").write_text(json.dumps(config))
        assert read_modules(copy) == Modules(pooling, True, 7)
    done = commands.run(*EMBED, *flags)
    assert done.status != 0
    assert "choose one of mean, cls with --pooling" in done.err


def test_vectors_are_those_of_transformers(folder):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = pretrained.load(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = parity_outputs.load_torch(folder, model.config).base_model
    texts = [text for text in TEXTS if text]
    batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.no_grad():
        hidden = theirs(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    wanted = {"mean": (hidden * mask).sum(1) / mask.sum(1), "cls": hidden[:, 0]}
    for pooling, vectors in wanted.items():
        found = next(
            embed(model.params, model.config, model.tokenizer, texts, pooling=pooling, batch_size=4)
        )
        np.testing.assert_allclose(found, vectors.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--input=no.txt", "--out=x.npy"], "--input=no.txt is missing"),
        (["--input={here}", "--out=x.csv"], "--out=x.csv: end it in .npy or .parquet"),
        (["--input={folder}/config.json", "--out=x.npy"], "config.json is no plain text, and each"),
        (["--input={here}", "--out=no/x.npy"], "there is no directory no"),
    ],
)
def test_bad_input_ends_in_one_line(folder, args, message):
    flags = [arg.format(here=__file__, folder=folder) for arg in args]
    assert message in commands.run(*EMBED, f"--workdir={folder}", *flags).error()
