"""The PyTorch lines that use an exported folder."""

from pathlib import Path


def pytorch_lines(folder: Path | str, mask: str = "[MASK]") -> str:
    """The lines that fill masks with an exported folder in Python."""
    return f"""\
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

tokenizer = AutoTokenizer.from_pretrained({str(folder)!r})
model = AutoModelForMaskedLM.from_pretrained({str(folder)!r})
fill = pipeline("fill-mask", model=model, tokenizer=tokenizer)
for guess in fill("The capital of France is {mask}."):
    print(guess["token_str"], guess["score"])"""


def encoder_lines(folder: Path | str) -> str:
    """The lines that compute hidden states with an exported encoder."""
    return f"""\
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({str(folder)!r})
model = AutoModel.from_pretrained({str(folder)!r})
hidden = model(**tokenizer("A text.", return_tensors="pt")).last_hidden_state"""


def sentence_lines(folder: Path | str) -> str:
    """The lines that embed sentences with an exported folder of sentence-transformers."""
    return f"""\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer({str(folder)!r})
vectors = model.encode(["A first sentence.", "And a second one."])
print(vectors.shape, model.similarity(vectors[:1], vectors[1:]))"""
