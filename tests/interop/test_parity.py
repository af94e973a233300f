"""The comparison of an export with `transformers`: precision, and libraries that fail."""

import sys

import jax
import pytest

from bert_jax.common.errors import UserError
from bert_jax.interop import parity, parity_batches, parity_outputs
from bert_jax.interop.hugging_face import export


@pytest.fixture
def exported(classic, redrawn, tokenizer_directory, tmp_path):
    params = redrawn(classic)
    export(params, classic, tokenizer_directory, tmp_path / "hf")
    return tmp_path / "hf", params, classic


def test_our_logits_are_computed_in_full_precision_whatever_the_default(exported):
    """A CPU computes in float32 anyway, but refuses to compile what asks for TF32."""
    _, params, config = exported
    batch = parity_batches.padded_batch(config)
    with jax.default_matmul_precision("TF32_TF32_F32"):
        with pytest.raises(ValueError, match="TF32"):
            parity_outputs._forward(config, params, batch)
        parity_outputs.our_logits(config, params, batch)


@pytest.fixture
def replaced(tmp_path, monkeypatch):
    """Puts a package before the installed one of its name, until the test ends."""
    hidden, names = {}, []

    def replace(name: str, source: str) -> None:
        names.append(name)
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        hidden.update(take(name))

    def take(name: str) -> dict:
        modules = [m for m in sys.modules if m.partition(".")[0] == name]
        return {module: sys.modules.pop(module) for module in modules}

    yield replace
    for name in names:
        take(name)
    sys.modules.update(hidden)


def test_a_broken_torch_is_named(exported, replaced):
    source = "raise OSError('libcudart.so.12: cannot open shared object file')"
    replaced("torch", source)
    with pytest.raises(
        parity.NotComparedError, match=r"torch cannot be imported \(OSError: libcudart"
    ):
        parity.verify(*exported)


OTHER_TRANSFORMERS = """
__version__ = "{version}"
class logging:
    disable_progress_bar = staticmethod(lambda: None)
"""


@pytest.mark.parametrize(
    ("version", "error", "message"),
    [
        ("4.40.0", parity.NotComparedError, r"transformers 4\.40\.0 is older than .* upgrade it"),
        ("99.0", UserError, r"transformers 99\.0 cannot compute .*BertForPreTraining"),
    ],
)
def test_a_transformers_that_lacks_the_class_is_named(exported, replaced, version, error, message):
    pytest.importorskip("torch")
    source = OTHER_TRANSFORMERS.format(version=version)
    replaced("transformers", source)
    with pytest.raises(error, match=message) as caught:
        parity.verify(*exported)
    assert type(caught.value) is error
