"""The lines of docs/pytorch.md run as they stand."""

import re
from pathlib import Path

import pytest

from bert_jax.interop.hugging_face import export

PAGE = Path(__file__).parents[2] / "docs" / "pytorch.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.slow
def test_attention_is_shown(family, redrawn, tokenizer_directory, tmp_path, monkeypatch):
    for name in ("torch", "transformers", "bertviz"):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    export(redrawn(family), family, tokenizer_directory, Path("hf"))
    names: dict = {}
    for block in blocks()[:1]:
        exec(block, names)
    exec("import torch\nfrom transformers import AutoModel", names)
    for block in blocks():
        if "attentions" in block:
            exec(block, names)
    assert len(names["attentions"]) == family.num_hidden_layers
    assert "[CLS]" in Path("attention.html").read_text()
    assert Path("attention.png").stat().st_size > 5000


def test_the_lines_of_the_page_run_in_order(
    family, redrawn, tokenizer_directory, tmp_path, monkeypatch, capsys
):
    for name in ("torch", "transformers", "accelerate"):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    export(redrawn(family), family, tokenizer_directory, Path("hf"))
    names: dict = {}
    for block in blocks():
        if "attentions" not in block:
            exec(block, names)
    assert capsys.readouterr().out.count("%  ") == 5
    assert names["embeddings"].shape == (2, 16)
    assert names["trainer"].state.global_step == 6
    tuned = names["AutoModelForSequenceClassification"].from_pretrained("finetuned")
    assert tuned.num_labels == 2
    assert names["AutoTokenizer"].from_pretrained("finetuned")("a [MASK]")["input_ids"][-2] == 4
