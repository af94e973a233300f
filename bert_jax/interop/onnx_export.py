"""ONNX files of an exported folder, in float32 and with weights of 8 bits, for serving on CPUs.

The dynamic quantization is ONNX Runtime's: weights are integers of 8 bits with a scale for each
output, activations are rounded as they come. PyTorch's own (`torch.ao.quantization`) is deprecated.
"""

import importlib.util
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.model import ModelConfig

FOLDER, FLOAT, INT8 = "onnx", "model.onnx", "model_int8.onnx"
LIBRARIES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
EVERY = 7  # one token in so many is masked for the comparison
Row = Int[np.ndarray, "_"]


class Agreement(NamedTuple):
    """What a quantized model loses on masked tokens of real text.

    Attributes:
      difference: the largest of an output from the float model's, absolute.
      predictions: tokens that were masked.
      same: share of them for which both give the same token.
      accuracy: of the float model, as a share.
      quantized_accuracy: of the other one.
    """

    difference: float
    predictions: int
    same: float
    accuracy: float
    quantized_accuracy: float


def expect_libraries() -> None:
    """Raise if a library is missing.

    Raises:
      UserError: names it and the extra that installs it.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--onnx and --int8 need {', '.join(missing)}: pip install {' '.join(missing)}"
        )


def write(folder: Path, config: ModelConfig, *, int8: bool) -> None:
    """Write `onnx/model.onnx`, and `onnx/model_int8.onnx` if asked for, into an exported folder.

    The inputs are those of the tokenizer; batch and length are free. The output is `logits` of a
    model with a masked-language head, `last_hidden_state` of an encoder.
    """
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    config_of_folder = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    [name] = config_of_folder.architectures
    loader: Any = transformers.AutoModel
    output = "last_hidden_state"
    if not name.endswith("Model"):
        loader, output = transformers.AutoModelForMaskedLM, "logits"
    model = loader.from_pretrained(folder, attn_implementation="eager", local_files_only=True)
    model = model.float().eval()
    names = input_names(config)

    class Traced(torch.nn.Module):
        def forward(self, *inputs: Any) -> Any:
            return model(**dict(zip(names, inputs, strict=True)))[output]

    traced = Traced()
    traced.model = model
    traced.eval()  # without dropout
    length = min(16, config.max_position_embeddings)
    example = tuple(torch.ones((2, length), dtype=torch.int64) for _ in names)
    axes = {
        0: torch.export.Dim("batch", min=1, max=1 << 16),
        1: torch.export.Dim("length", min=2, max=config.max_position_embeddings),
    }
    (folder / FOLDER).mkdir()
    path = folder / FOLDER / FLOAT
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it lists what is not installed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own ways
        torch.onnx.export(
            traced,
            example,
            path,
            input_names=names,
            output_names=[output],
            dynamic_shapes=((axes,) * len(names),),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if int8:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # it advises to preprocess
        try:
            quantize_dynamic(
                path, folder / FOLDER / INT8, weight_type=QuantType.QInt8, per_channel=True
            )
        finally:
            root.setLevel(level)


def input_names(config: ModelConfig) -> list[str]:
    """The inputs of the model's file, in order."""
    return ["input_ids", "attention_mask", *(["token_type_ids"] if config.token_types else [])]


def outputs(
    path: Path, config: ModelConfig, rows: Sequence[Row], pad_id: int
) -> list[Float[np.ndarray, "L _"]]:
    """What a file computes for each row."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ids = np.full((len(rows), max(map(len, rows))), pad_id, np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)], mask[index, : len(row)] = row, 1
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    found = session.run(None, {name: inputs[name] for name in input_names(config)})[0]
    return [of_row[: len(row)] for of_row, row in zip(found, rows, strict=True)]


def compare(
    folder: Path, config: ModelConfig, rows: Sequence[Row], vocabulary: Vocabulary
) -> Agreement:
    """The quantized file against the float one, on rows of real text with tokens masked.

    For an encoder without a head, "predictions" are vectors, and a vector agrees if it is nearest
    to its own among all.
    """
    masked, labels = [], []
    for row in rows:
        copy = row.copy()
        places = np.arange(2, len(row) - 1, EVERY)
        copy[places] = vocabulary.mask_id
        masked.append(copy)
        labels.append((places, row[places]))
    exact, rounded = (
        outputs(folder / FOLDER / name, config, masked, vocabulary.pad_id) for name in (FLOAT, INT8)
    )
    pairs = list(zip(exact, rounded, strict=True))
    difference = max(float(np.abs(a - b).max()) for a, b in pairs)
    if exact[0].shape[-1] != vocabulary.size:
        means = [np.stack([part.mean(0) for part in side]) for side in zip(*pairs, strict=True)]
        unit = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in means]
        nearest = (unit[1] @ unit[0].T).argmax(1)
        same = float((nearest == np.arange(len(rows))).mean())
        return Agreement(difference, len(rows), same, 1.0, same)
    guesses = [
        np.concatenate([side[at].argmax(-1) for side, (at, _) in zip(sides, labels, strict=True)])
        for sides in (exact, rounded)
    ]
    wanted = np.concatenate([ids for _, ids in labels])
    return Agreement(
        difference,
        len(wanted),
        float((guesses[0] == guesses[1]).mean()),
        float((guesses[0] == wanted).mean()),
        float((guesses[1] == wanted).mean()),
    )
