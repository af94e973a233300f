"""The lines of docs/pytorch.md run as they stand."""

import re
from pathlib import Path

import pytest

from bert_jax.interop.hugging_face import export

PAGE = Path(__file__).parents[2] / "docs" / "pytorch.md"


def test_the_lines_of_the_page_run_in_order(
    family, redrawn, tokenizer_directory, tmp_path, monkeypatch, capsys
):
    for name in ("torch", "transformers", "accelerate"):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    export(redrawn(family), family, tokenizer_directory, Path("hf"))
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    assert capsys.readouterr().out.count("%  ") == 5
    assert names["embeddings"].shape == (2, 16)
    assert names["trainer"].state.global_step == 6
    tuned = names["AutoModelForSequenceClassification"].from_pretrained("finetuned")
    assert tuned.num_labels == 2
    assert names["AutoTokenizer"].from_pretrained("finetuned")("a [MASK]")["input_ids"][-2] == 4
