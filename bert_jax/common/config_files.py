"""Config files by path, or by name: those in `configs/` are part of the installed package."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
RUNS, FINETUNINGS = "", "finetune"  # folders in configs/


def shipped() -> Path:
    """The directory of the config files that come with bert_jax: in the package, or the clone."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def find(name: str) -> Path:
    """The config file that `name` stands for: a file, else one that comes with bert_jax.

    `quickstart`, `quickstart.py` and `configs/quickstart.py` name the same one; a file at that path
    wins. A name that stands for nothing is returned as it is.
    """
    path = Path(name)
    if path.is_file():
        return path
    inside = path.relative_to("configs") if path.parts[:1] == ("configs",) else path
    found = shipped() / inside.with_suffix(".py")
    return found if found.is_file() else path


def names(folder: str = RUNS) -> list[str]:
    """The names of the config files that come with bert_jax: of runs, or of fine-tunings."""
    files = (shipped() / folder).glob("*.py")
    return sorted(str(path.relative_to(shipped()).with_suffix("")) for path in files)
