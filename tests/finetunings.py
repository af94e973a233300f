"""Tiny fine-tunings in this process."""

from pathlib import Path

from ml_collections import ConfigDict

from bert_jax.config import changed, load_config
from bert_jax.finetune import finetune as run_finetune
from tests.runs import ROOT, Run, kept_programs

GOOD = "a warm and lovely film", "truly lovely acting", "lovely , warm and good", "a good story"
BAD = "a cold and dreadful film", "truly dreadful acting", "dreadful , cold and bad", "a bad story"


def sentiment(path: Path, repeat: int = 6) -> Path:
    """A tsv file of sentences with labels."""
    rows = [
        f"{text} {'again ' * number}\t{label}"
        for number in range(repeat)
        for texts, label in ((GOOD, "positive"), (BAD, "negative"))
        for text in texts
    ]
    path.write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return path


def tiny(kind: str, init: Path, data: Path, **fields: object) -> ConfigDict:
    """The config of a tiny fine-tuning on `data`, which is its validation split too."""
    config = load_config(str(ROOT / "configs" / "finetune" / f"{kind}.py"))
    defaults = {
        "init": str(init),
        "data.train": str(data),
        "data.validation": str(data),
        "batch_size": 8,
        "max_length": 32,
        "learning_rate": 3e-3,
        "shapes": 1,
        "log_every": 2,
    }
    return changed(config, {**defaults, **fields})


def finetune(config: ConfigDict, directory: Path) -> Path:
    """Fine-tune with the programs that earlier calls compiled; returns the directory."""
    with kept_programs():
        run_finetune(config, directory)
    return directory


__all__ = ["Run", "finetune", "sentiment", "tiny"]
