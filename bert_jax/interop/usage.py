"""The PyTorch lines that use an exported folder."""

from pathlib import Path


def pytorch_lines(folder: Path, mask: str = "[MASK]") -> str:
    """The lines that fill masks with an exported folder in Python."""
    return f"""\
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

tokenizer = AutoTokenizer.from_pretrained({str(folder)!r})
model = AutoModelForMaskedLM.from_pretrained({str(folder)!r})
fill = pipeline("fill-mask", model=model, tokenizer=tokenizer)
for guess in fill("The capital of France is {mask}."):
    print(guess["token_str"], guess["score"])"""
