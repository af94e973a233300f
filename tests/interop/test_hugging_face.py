"""The folder: loads under `transformers`, comes back exactly, is made whole or not at all."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bert_jax.common.errors import UserError
from bert_jax.interop import configs, parity
from bert_jax.interop.hugging_face import export
from bert_jax.interop.load import load_params


@pytest.fixture
def out(tmp_path):
    return tmp_path / "hf"


@pytest.mark.parametrize("format", ["safetensors", "bin"])
def test_export_then_import_is_exact(model_config, redrawn, tokenizer_directory, out, format):
    if format == "bin":
        pytest.importorskip("torch")
    params = redrawn(model_config)
    export(params, model_config, tokenizer_directory, out, format)
    again, loaded, notes = load_params(out, allow_pickle=format == "bin")
    assert again == model_config
    assert not notes
    jax.tree.map(np.testing.assert_array_equal, params, loaded)  # raises where the trees differ


def test_auto_classes_compute_our_logits(model_config, redrawn, tokenizer_directory, out):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    params = redrawn(model_config)
    export(params, model_config, tokenizer_directory, out)
    assert parity.verify(out, params, model_config) <= 1e-4
    loaders = [transformers.AutoModelForMaskedLM]
    if model_config.next_sentence:
        loaders += [transformers.AutoModelForPreTraining, transformers.BertForPreTraining]
    for loader in loaders:
        model, report = loader.from_pretrained(out, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["mismatched_keys"]
        assert not {
            k for k in report["unexpected_keys"] if "pooler" not in k and "seq_rel" not in k
        }
        table = model.get_input_embeddings().weight
        assert model.get_output_embeddings().weight is table
        np.testing.assert_array_equal(
            table.detach().numpy(), params["encoder"]["embeddings"]["tokens"]["embedding"]
        )


def test_a_state_dict_loads_strictly(model_config, redrawn, tokenizer_directory, out):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    export(redrawn(model_config), model_config, tokenizer_directory, out, "bin")
    loader = getattr(transformers, configs.architecture(model_config))
    model = loader(transformers.AutoConfig.from_pretrained(out))
    state = torch.load(out / "pytorch_model.bin", weights_only=True)
    model.load_state_dict(state, strict=True)  # raises where a tensor is missing or unknown


def test_a_wrong_file_does_not_pass(modern, redrawn, tokenizer_directory, out):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    params = redrawn(modern)
    export(params, modern, tokenizer_directory, out)
    tensors = load_file(out / "model.safetensors")
    tensors["model.layers.1.attn_norm.weight"] += 1e-2
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="differ from ours by"):
        parity.verify(out, params, modern)


def test_a_checkpoint_of_2018_has_other_names(classic, redrawn, tokenizer_directory, out):
    params = redrawn(classic)
    export(params, classic, tokenizer_directory, out)
    old = {}
    for name, tensor in load_file(out / "model.safetensors").items():
        old[name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")] = tensor
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"].copy()
    old["bert.embeddings.position_ids"] = np.arange(64)[None]
    save_file(old, out / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, params, load_params(out).params)


def test_a_decoder_of_its_own_is_refused(modern, redrawn, tokenizer_directory, out):
    export(redrawn(modern), modern, tokenizer_directory, out)
    tensors = load_file(out / "model.safetensors")
    tensors["decoder.weight"] = tensors["model.embeddings.tok_embeddings.weight"] + 1
    save_file(tensors, out / "model.safetensors")
    with pytest.raises(UserError, match=r"'decoder\.weight' is not tied"):
        load_params(out)


def test_a_folder_with_other_files_is_left_alone(classic, redrawn, tokenizer_directory, out):
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds files that no export wrote"):
        export(redrawn(classic), classic, tokenizer_directory, out)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_an_earlier_export_is_replaced_unless_it_was_changed(
    classic, modern, redrawn, tokenizer_directory, out
):
    export(redrawn(classic), classic, tokenizer_directory, out)
    export(redrawn(modern), modern, tokenizer_directory, out)
    assert json.loads((out / "config.json").read_text())["model_type"] == "modernbert"
    (out / "config.json").write_text("{}")  # as fine-tuning into the same folder would
    with pytest.raises(UserError, match="changed since"):
        export(redrawn(classic), classic, tokenizer_directory, out)


def test_a_failure_leaves_nothing_behind(classic, redrawn, tokenizer_directory, out):
    broken = redrawn(classic)
    del broken["nsp_head"]
    with pytest.raises(AssertionError, match="nsp_head"):
        export(broken, classic, tokenizer_directory, out)
    assert not list(out.parent.iterdir())


def test_bad_requests_are_refused_before_anything_is_written(
    classic, redrawn, tokenizer_directory, out, tmp_path
):
    small = dataclasses.replace(classic, vocab_size=100)
    with pytest.raises(UserError, match="700 tokens and the model 100"):
        export(redrawn(small), small, tokenizer_directory, out)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match=r"vocabulary\.json is missing"):
        export(redrawn(classic), classic, tmp_path / "nothing", out)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file: name a new folder"):
        export(redrawn(classic), classic, tokenizer_directory, tmp_path / "file")
    with pytest.raises(UserError, match="cannot be made: Not a directory"):
        export(redrawn(classic), classic, tokenizer_directory, tmp_path / "file" / "hf")
    assert not out.exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: (out / "config.json").unlink(), "holds no config.json"),
        (lambda out: (out / "config.json").write_text("{"), "is no JSON"),
        (lambda out: (out / "config.json").write_text("{}"), "model_type is None"),
        (lambda out: (out / "model.safetensors").unlink(), "holds neither"),
        (lambda out: (out / "model.safetensors").write_bytes(b"x" * 99), "is damaged"),
    ],
)
def test_a_folder_that_cannot_be_read_says_why(
    classic, redrawn, tokenizer_directory, out, damage, message
):
    export(redrawn(classic), classic, tokenizer_directory, out)
    damage(out)
    with pytest.raises(UserError, match=message):
        load_params(out)


def test_the_config_is_what_the_class_expects(model_config, redrawn, tokenizer_directory, out):
    export(redrawn(model_config), model_config, tokenizer_directory, out)
    values = json.loads((out / "config.json").read_text())
    assert values["architectures"] == [configs.architecture(model_config)]
    assert values["vocab_size"] == 700
    assert values["pad_token_id"] == 0
    assert values["dtype"] == "float32"
