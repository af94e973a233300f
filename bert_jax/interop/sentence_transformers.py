"""The files that make an exported encoder a model of sentence-transformers (version 6)."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from bert_jax.common.errors import UserError
from bert_jax.interop.export_folder import write_json

POOLINGS = ("mean", "cls")
MODULES = "modules.json"
_OLD_NAMES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}  # before 6


@dataclasses.dataclass(frozen=True)
class Modules:
    """How a folder makes a vector of a text.

    Attributes:
      pooling: one of `POOLINGS`; "": one that we do not have, or layers after it.
      normalize: whether vectors are divided by their length.
      max_length: tokens of a text; longer ones are cut.
    """

    pooling: str = "mean"
    normalize: bool = False
    max_length: int = 512


def read_modules(folder: Path) -> Modules:
    """What a folder says about its vectors; the defaults where it has no `modules.json`.

    Raises:
      UserError: a file is no JSON, or not what the library writes.
    """
    if not (folder / MODULES).is_file():
        return Modules()
    try:
        paths = {
            module["type"].rpartition(".")[2]: module["path"] for module in _read(folder / MODULES)
        }
        pooling = _pooling(_read(folder / paths["Pooling"] / "config.json"))
        lengths = (
            _read(folder / "sentence_bert_config.json").get("max_seq_length"),
            _read(folder / "tokenizer_config.json").get("model_max_length"),
        )
        length = next((int(length) for length in lengths if length), Modules.max_length)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise UserError(
            f"{folder / MODULES}, or a file that it names, is not as sentence-transformers writes "
            f"it ({error!r})"
        ) from error
    is_known = paths.keys() <= {"Transformer", "Pooling", "Normalize"}
    return Modules(pooling if is_known else "", "Normalize" in paths, length)


def _pooling(config: dict[str, Any]) -> str:
    """One of `POOLINGS`, or "" for another one, or several at once."""
    chosen = [name for name, value in config.items() if name.startswith("pooling_mode_") and value]
    old = "+".join(_OLD_NAMES.get(name, name) for name in chosen)
    mode = config.get("pooling_mode") or old or "mean"
    return mode if mode in POOLINGS else ""


def _read(path: Path) -> Any:
    """The JSON of a file; an empty object where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_modules(
    folder: Path, *, width: int, pooling: str, normalize: bool, max_length: int
) -> None:
    """Write `modules.json` and the modules' configs beside the encoder's files.

    Args:
      folder: holds the encoder.
      width: of its hidden states.
      pooling: one of `POOLINGS`.
      normalize: whether vectors are divided by their length.
      max_length: tokens of a text; longer ones are cut.
    """
    modules: list[tuple[str, str, dict[str, Any] | None]] = [
        ("", "base.modules.transformer.Transformer", None),
        (
            "1_Pooling",
            "sentence_transformer.modules.pooling.Pooling",
            {"embedding_dimension": width, "pooling_mode": pooling, "include_prompt": True},
        ),
    ]
    if normalize:
        output = "sentence_embedding"
        names = {"module_input_name": output, "module_output_name": output}
        modules.append(("2_Normalize", "base.modules.normalize.Normalize", names))
    listed = [
        {
            "idx": index,
            "name": str(index),
            "path": path,
            "type": f"sentence_transformers.{class_name}",
        }
        for index, (path, class_name, _) in enumerate(modules)
    ]
    for path, _, values in modules:
        if values is not None:
            (folder / path).mkdir()
            write_json(folder / path / "config.json", values)
    write_json(folder / MODULES, listed)
    write_json(folder / "sentence_bert_config.json", {"transformer_task": "feature-extraction"})
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "model_type": "SentenceTransformer",
            "prompts": {},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    tokenizer = folder / "tokenizer_config.json"
    values = json.loads(tokenizer.read_text(encoding="utf-8"))
    write_json(tokenizer, values | {"model_max_length": max_length})
