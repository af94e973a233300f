"""`convert import`: a workdir that the other commands use, made whole or not at all."""

import jax
import numpy as np
import pytest

from bert_jax import convert
from bert_jax.common.errors import UserError
from bert_jax.config import default_config
from bert_jax.interop.hugging_face import export
from bert_jax.run import continuation, pretrained, workdir
from tests import commands

IMPORT = (convert.define_import_flags, convert.import_)


@pytest.fixture
def folder(family, redrawn, wordpiece_directory, tmp_path):
    out = tmp_path / "hf"
    export(redrawn(family), family, wordpiece_directory, out)
    return out


def test_import_and_export_give_back_the_same_bytes(folder, tmp_path):
    done = commands.run(*IMPORT, f"--from={folder}", f"--workdir={tmp_path / 'run'}")
    assert done.status == 0, done.err
    assert "configs/continue_pretraining.py" in done.out
    run = workdir.load_run(tmp_path / "run")
    assert run.step == 0
    export(run.params, run.model, run.tokenizer_directory, tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_a_folder_of_transformers_is_no_run(folder):
    with pytest.raises(UserError, match=r"is a folder of transformers.*convert import --from="):
        workdir.load_run(folder)


def test_words_can_be_added_to_the_vocabulary(folder, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("zymurgy\nquux-9\nthe\n\n")
    flags = (f"--from={folder}", f"--add_tokens={words}", f"--workdir={tmp_path / 'run'}")
    done = commands.run(*IMPORT, *flags)
    assert done.status == 0, done.err
    assert "Added: 2, of which 2 start as the mean of their old pieces" in done.out
    before, after = pretrained.load(folder), pretrained.load(f"{tmp_path / 'run'}@0")
    ids = after.tokenizer.encode(["zymurgy quux-9 the zymurgys"])[0].tolist()
    assert ids[:2] == [700, 701]
    assert ids[3] == 700  # its ending continues it
    pieces = before.tokenizer.encode(["zymurgy"])[0]
    tables = [m.params["encoder"]["embeddings"]["tokens"]["embedding"] for m in (before, after)]
    np.testing.assert_allclose(tables[1][700], tables[0][pieces].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(tables[1][:700], tables[0])
    run = workdir.load_run(tmp_path / "run")  # the exported tokenizer is compared with this one
    export(run.params, run.model, run.tokenizer_directory, tmp_path / "again")
    again = pretrained.load(tmp_path / "again")
    assert again.tokenizer.encode(["zymurgy quux-9 the zymurgys"])[0].tolist() == ids


def test_a_run_is_not_continued_where_it_was_imported(classic, redrawn, tmp_path):
    (tmp_path / "imported.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds an imported encoder.*--config\.init_from="):
        continuation.check(tmp_path, default_config())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--from={tmp}/nowhere"], "--from={tmp}/nowhere is missing: name a workdir or a folder"),
        (["--from={tmp}"], "--from={tmp} holds no config.json: it is neither a workdir nor a"),
        (["--from={tmp}/hf@7"], "it has no step 7"),
        (["--from={tmp}/hf", "--add_tokens={tmp}/no.txt"], "--add_tokens={tmp}/no.txt is missing"),
        (["--from={tmp}/hf", "--vocabulary={tmp}/no.txt"], "--vocabulary={tmp}/no.txt is missing"),
        (["--from={tmp}/hf", "--workdir={tmp}/hf"], "hf is not empty: name a new directory"),
    ],
)
@pytest.mark.parametrize("family", ["BertForPreTraining"], indirect=True)
def test_bad_input_ends_in_one_line_and_leaves_nothing(folder, tmp_path, args, message):
    before = sorted(tmp_path.rglob("*"))
    given = [arg.format(tmp=tmp_path) for arg in args]
    if len(given) == 1 or "workdir" not in given[1]:
        given.append(f"--workdir={tmp_path / 'run'}")
    assert message.format(tmp=tmp_path) in commands.run(*IMPORT, *given).error()
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_of_a_replaced_vocabulary_are_found_by_text(
    classic, redrawn, wordpiece_directory, tokenizer_directory, tmp_path
):
    """From WordPiece to sentencepiece: words that both have keep their vectors."""
    from bert_jax.corpus.tokenizers.load import load_tokenizer
    from bert_jax.interop import vocabulary_change

    old, new = load_tokenizer(wordpiece_directory), load_tokenizer(tokenizer_directory)
    change = vocabulary_change.compare(old, new)
    assert set(change.kept) | set(change.added) == set(range(700))
    assert set(change.old_ids) | set(change.dropped) == set(range(700))
    pairs = dict(zip(change.kept, change.old_ids, strict=True))
    assert pairs[new.vocabulary.mask_id] == old.vocabulary.mask_id
    [the_new], [the_old] = new.encode(["the"])[0].tolist(), old.encode(["the"])[0].tolist()
    assert pairs[the_new] == the_old
    params = redrawn(classic)
    for vectors in vocabulary_change.NEW_EMBEDDINGS:
        model, changed = vocabulary_change.apply(change, params, classic, new, vectors)
        table = changed["encoder"]["embeddings"]["tokens"]["embedding"]
        old_table = params["encoder"]["embeddings"]["tokens"]["embedding"]
        np.testing.assert_array_equal(table[change.kept], old_table[change.old_ids])
        index = next(i for i, pieces in enumerate(change.pieces) if len(pieces) > 1)
        mean = old_table[change.pieces[index]].mean(axis=0)
        assert np.allclose(table[change.added[index]], mean) == (vectors == "mean")
        assert model.vocab_size == 700
    jax.tree.map(
        np.testing.assert_array_equal, params["mlm_head"]["norm"], changed["mlm_head"]["norm"]
    )
