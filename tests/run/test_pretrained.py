"""The Python interface does what the commands do."""

import subprocess
import sys

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import bert_jax
from bert_jax.common.errors import UserError
from bert_jax.config import named
from bert_jax.run.starting import load_start
from tests.runs import ROOT

TEXT = "The value of an [MASK] is a string."


@pytest.fixture(scope="module")
def model(finished):
    return bert_jax.load(finished.workdir)


def test_the_package_is_light_to_import():
    code = "import sys, bert_jax; print('jax' in sys.modules, bert_jax.__version__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", bert_jax.__version__]


def test_masks_are_filled_as_the_logits_say(model):
    ((guesses,),) = model.fill_mask(TEXT, top=3)
    assert len(guesses) == 3
    (logits,) = model.logits(TEXT)
    known = model.tokenizer.vocabulary
    ids = [known.cls_id, *model.tokenizer.encode_with_specials(TEXT), known.sep_id]
    assert logits.shape == (len(ids), known.size)
    at_mask = np.where(known.is_special, -np.inf, logits[ids.index(known.mask_id)])
    assert guesses[0].piece == model.tokenizer.piece(int(at_mask.argmax()))


def test_logits_do_not_depend_on_the_texts_beside(model):
    alone, together = model.logits(TEXT)[0], model.logits(["Another text.", TEXT])[1]
    np.testing.assert_array_equal(alone, together)


def test_a_text_that_is_too_long_is_refused(model):
    with pytest.raises(UserError, match="tokens and the model takes at most"):
        model.logits("word " * 200)


def test_each_text_has_a_vector(model):
    vectors = model.embed(["One text.", "Two texts."], normalize=True)
    assert vectors.shape == (2, model.config.hidden_size)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)


def test_configs_have_names_and_their_fields_are_checked():
    fields = {"model.dropout": 0.0, "corpus.source": ["text:a", "text:b"]}
    config = named("bert:tiny", seed=7, **fields)
    assert (config.seed, config.model.dropout) == (7, 0.0)
    assert config.corpus.source == ["text:a", "text:b"]
    with pytest.raises(UserError, match=r"'nothing'.*quickstart"):
        named("nothing")
    with pytest.raises(UserError, match="sed"):
        named("quickstart", sed=3)


@pytest.mark.parametrize("prefix", ["", "random:"])
def test_a_start_without_an_encoder_is_refused_by_the_name_of_its_field(prefix, tmp_path):
    with pytest.raises(UserError, match=rf"^config\.init={tmp_path} holds no config\.json"):
        load_start(f"{prefix}{tmp_path}", lambda: ())


@pytest.mark.slow
def test_the_notebook_runs(corpus, tmp_path):
    notebook = nbformat.read(ROOT / "docs" / "first_run.ipynb", as_version=4)
    long = 'named("quickstart", budget="40s")'
    short = {"total_steps": 4, "corpus.source": corpus, "tokenizer.vocab_size": 300}
    (cell,) = [cell for cell in notebook.cells if long in cell.source]
    cell.source = cell.source.replace(long, f'named("quickstart", **{short | {"budget": ""}})')
    client = NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, timeout=300)
    client.execute()
    assert (tmp_path / "runs" / "notebook" / "report.html").exists()
    assert "(2, 128)" in notebook.cells[-1].outputs[0].text
