"""Folders of fine-tuned models that `transformers` loads: BertFor... and ModernBertFor..."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.interop import configs, names, parity, sentence_transformers, tokenizers
from bert_jax.interop.export_folder import write_folder, write_json
from bert_jax.interop.tensor_files import write_safetensors
from bert_jax.model import ModelConfig, Params


@dataclasses.dataclass(frozen=True)
class TaskHead:
    """What `transformers` calls a head.

    Attributes:
      suffix: of its class, after Bert or ModernBert: `ForSequenceClassification`.
      values: for `config.json`, such as `id2label`.
      classifier: the name of its last linear map.
      pooling: `mean` or `cls`, for encoders that sentence-transformers loads too; empty: not.
    """

    suffix: str
    values: Mapping[str, Any]
    classifier: str = "classifier"
    pooling: str = ""

    def architecture(self, config: ModelConfig) -> str:
        """The name of the class for an encoder."""
        return ("ModernBert" if config.norm == "pre" else "Bert") + self.suffix


def label_values(labels: list[str], problem_type: str | None = None) -> dict[str, Any]:
    """The fields of `config.json` that name the labels."""
    values: dict[str, Any] = {
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    return values | ({"problem_type": problem_type} if problem_type else {})


def export(
    encoder: Params,
    head: Params | None,
    config: ModelConfig,
    kind: TaskHead,
    tokenizer_directory: Path,
    out: Path,
    *,
    max_length: int,
) -> None:
    """Write `config.json`, the weights in float32 and the tokenizer into the folder `out`.

    Args:
      encoder: its parameters.
      head: of the task; None: the encoder alone.
      config: of the encoder.
      kind: what the head is called.
      tokenizer_directory: a tokenizer saved by `bert_jax.corpus.tokenizers.base`.
      out: written in full or not at all; replaces an earlier export that was not changed since.
      max_length: tokens of a row in the fine-tuning, to which the tokenizer cuts.

    Raises:
      UserError: no class of transformers computes what the encoder computes.
    """
    vocabulary = Vocabulary.load(tokenizer_directory)
    # Only the encoder counts here: the class has no pretraining heads.
    plain = dataclasses.replace(config, head="full", next_sentence=False)
    values = configs.to_hugging_face(plain, vocabulary) | dict(kind.values)
    values["architectures"] = [kind.architecture(config)]
    tensors = (
        names.task_to_torch(encoder, head, config, kind.classifier)
        if head is not None
        else names.encoder_to_torch(encoder, config)
    )

    def write(folder: Path) -> None:
        write_json(folder / "config.json", values)
        tokenizers.export(
            tokenizer_directory, folder, max_length=max_length, token_types=config.token_types > 1
        )
        write_safetensors(tensors, folder)
        if kind.pooling:
            sentence_transformers.write_modules(
                folder,
                width=config.hidden_size,
                pooling=kind.pooling,
                normalize=True,
                max_length=max_length,
            )

    write_folder(out, write)


def verify(
    folder: Path, architecture: str, batch: Mapping[str, np.ndarray], logits: np.ndarray
) -> float:
    """The largest difference of the folder's logits under `transformers` from ours.

    Args:
      folder: exported.
      architecture: its class.
      batch: rows of real text.
      logits: ours, of rows or, at the tokens of rows, of tokens.

    Raises:
      NotComparedError: torch or transformers is missing, broken or too old.
      UserError: the difference is more than rounding.
    """
    parity.require_libraries()
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    model = getattr(transformers, architecture).from_pretrained(folder, local_files_only=True)
    inputs = {"input_ids": torch.tensor(batch["input_ids"].astype(np.int64))}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.tensor(batch["token_type_ids"].astype(np.int64))
    inputs["attention_mask"] = torch.tensor((batch["segment_ids"] > 0).astype(np.int64))
    with torch.no_grad():
        outputs = model.float().eval()(**inputs)
    if "start_logits" in outputs:
        theirs = torch.stack([outputs.start_logits, outputs.end_logits], dim=-1).numpy()
    else:
        theirs = outputs.logits.numpy()
    if theirs.ndim == 3:
        is_text = batch["segment_ids"] > 0
        theirs, logits = theirs[is_text], logits[is_text]
    what = f"the logits of {folder} under transformers"
    return parity.expect_close(what, [(logits.reshape(theirs.shape), theirs)])
