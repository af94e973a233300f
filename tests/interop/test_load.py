"""Encoders of `transformers` compute the same here, however their folder was written."""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tokenizers
from flax import nnx
from safetensors.numpy import load_file, save_file
from tokenizers import models, pre_tokenizers, trainers

from bert_jax.common.errors import UserError
from bert_jax.interop.folder_tokenizer import open_folder_tokenizer
from bert_jax.interop.load import Imported, load_folder, load_params
from bert_jax.model import abstract

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 700,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}


def make_folder(folder: Path, name: str, tokenizer: Path, **fields):
    """A random model of a class of `transformers`, saved with a tokenizer."""
    model_class = getattr(transformers, name)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**{**SIZES, **fields})).eval()
    for parameter in model.parameters():
        parameter.data = 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    shutil.copy(tokenizer / "tokenizer.json", folder)
    return model


def hidden(imported: Imported, ids: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Hidden states [B, L, D] of rows of one text each."""
    batch = {
        "input_ids": ids,
        "token_type_ids": np.zeros_like(ids),
        "position_ids": np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape),
        "segment_ids": visible.astype(np.int32),
    }
    return np.asarray(_hidden(imported.model, imported.params, batch))


@functools.partial(jax.jit, static_argnums=0)
def _hidden(config, params, batch):
    with jax.default_matmul_precision("highest"):
        return nnx.merge(abstract(config)[0], params).hidden(batch)


def expect_equal_hidden(model, imported: Imported) -> None:
    """Compare on two texts, of which one is shorter."""
    random = np.random.default_rng(0)
    ids = random.integers(5, 700, (2, 20), dtype=np.int32)
    visible = np.arange(20) < np.array([[20], [13]])
    ids = np.where(visible, ids, imported.tokenizer.vocabulary.pad_id)
    with torch.no_grad():
        theirs = model.base_model(
            torch.tensor(ids.astype(np.int64)),
            attention_mask=torch.tensor(visible.astype(np.int64)),
        ).last_hidden_state.numpy()
    ours = hidden(imported, ids, visible)
    np.testing.assert_allclose(ours[visible], theirs[visible], atol=1e-4)


@pytest.fixture(scope="module")
def roberta_tokenizer(tmp_path_factory) -> Path:
    """RoBERTa's special tokens at its ids, in a byte-level vocabulary."""
    from tests.encoders import paragraphs

    folder = tmp_path_factory.mktemp("roberta")
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(paragraphs(), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))
    return folder


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("BertModel", "the masked-language head is new"),
        ("BertForMaskedLM", ""),
        ("BertForSequenceClassification", "of a fine-tuned model is not used: classifier.bias"),
        ("ModernBertModel", "the masked-language head is new"),
        ("ModernBertForMaskedLM", ""),
        ("ModernBertForTokenClassification", "the masked-language head is new"),
    ],
)
def test_an_encoder_is_read_with_and_without_its_head(name, note, byte_level_directory, tmp_path):
    fields = {"pad_token_id": 0}
    if name.startswith("Modern"):
        fields |= {"global_attn_every_n_layers": 2, "local_attention": 8}
    model = make_folder(tmp_path, name, byte_level_directory, **fields)
    imported = load_folder(tmp_path)
    expect_equal_hidden(model, imported)
    assert note in "; ".join(imported.notes)
    assert bool(note) == bool(imported.notes)
    again = load_folder(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, imported.params, again.params)


@pytest.mark.parametrize("name", ["RobertaForMaskedLM", "RobertaModel"])
def test_roberta_is_a_bert_whose_positions_begin_later(name, roberta_tokenizer, tmp_path):
    fields = {"pad_token_id": 1, "type_vocab_size": 1, "bos_token_id": 0, "eos_token_id": 2}
    model = make_folder(tmp_path, name, roberta_tokenizer, **fields)
    imported = load_folder(tmp_path)
    assert imported.model.max_position_embeddings == 38
    assert imported.tokenizer.vocabulary.pad_id == 1
    assert imported.tokenizer.vocabulary.mask_id == 4
    expect_equal_hidden(model, imported)


def test_a_tokenizer_in_the_older_format_gives_the_same_ids(roberta_tokenizer, tmp_path):
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(roberta_tokenizer / file, tmp_path)
    text = "The <mask> statement, naïve café"
    ids = [
        open_folder_tokenizer(folder).encode_with_specials(text).tolist()
        for folder in (roberta_tokenizer, tmp_path)
    ]
    assert ids[0] == ids[1]


def test_shards_are_read_as_one_file(byte_level_directory, tmp_path):
    model = make_folder(tmp_path / "whole", "BertForMaskedLM", byte_level_directory)
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    whole, shards = (load_params(tmp_path / name).params for name in ("whole", "shards"))
    jax.tree.map(np.testing.assert_array_equal, whole, shards)
    next((tmp_path / "shards").glob("*-00002-of-*.safetensors")).unlink()
    with pytest.raises(UserError, match=r"lacks model-00002-of-.*, which .*index\.json lists"):
        load_params(tmp_path / "shards")


def test_half_precision_is_read(byte_level_directory, tmp_path):
    model = make_folder(tmp_path, "BertForMaskedLM", byte_level_directory)
    whole = load_params(tmp_path).params
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    half = load_params(tmp_path).params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.01), whole, half)
    assert half["mlm_head"]["bias"].dtype == np.float32


def test_pickles_are_refused_unless_they_are_allowed(byte_level_directory, tmp_path):
    model = make_folder(tmp_path, "BertForMaskedLM", byte_level_directory)
    whole = load_params(tmp_path).params
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle.*--allow_pickle"):
        load_params(tmp_path)
    jax.tree.map(
        np.testing.assert_array_equal, whole, load_params(tmp_path, allow_pickle=True).params
    )
    torch.save({"a": Path("code")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="is no file of tensors alone"):
        load_params(tmp_path, allow_pickle=True)


def test_rows_of_the_embeddings_without_a_token_are_left_out(byte_level_directory, tmp_path):
    model = make_folder(tmp_path, "BertForMaskedLM", byte_level_directory, vocab_size=704)
    imported = load_folder(tmp_path)
    assert imported.model.vocab_size == 700
    assert "4 rows of the embeddings" in imported.notes[0]
    expect_equal_hidden(model, imported)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"vocab_size": 600}, "700 tokens and the model has 600: it is not the checkpoint's"),
        ({"pad_token_id": 3}, "pads with the id 0 and config.json says 3"),
        ({"model_type": "albert"}, "model_type is 'albert'.* cannot be imported"),
    ],
)
def test_a_folder_that_does_not_fit_together_is_refused(
    byte_level_directory, tmp_path, damage, message
):
    make_folder(tmp_path, "BertForMaskedLM", byte_level_directory)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    if "vocab_size" in damage:
        tensors = load_file(tmp_path / "model.safetensors")
        for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"):
            tensors[name] = tensors[name][:600].copy()
        save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=message):
        load_folder(tmp_path)


def test_a_folder_without_a_tokenizer_says_which_files_it_lacks(byte_level_directory, tmp_path):
    make_folder(tmp_path, "BertForMaskedLM", byte_level_directory)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"holds no tokenizer: none of tokenizer\.json, vocab"):
        load_folder(tmp_path)
