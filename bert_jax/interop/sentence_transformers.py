"""The files that make an exported encoder a model of sentence-transformers (version 6)."""

import json
from pathlib import Path
from typing import Any

from bert_jax.interop.export_folder import write_json

POOLINGS = ("mean", "cls")


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
    write_json(folder / "modules.json", listed)
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
