"""Exports of a run: the folder with its model card, and the check that follows each."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from bert_jax.corpus.store import MANIFEST, TokenStore
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.inference.embed import embed
from bert_jax.interop import hugging_face, onnx_export, parity
from bert_jax.interop.parity_batches import TEXTS, text_batch
from bert_jax.interop.parity_outputs import in_float32, our_hidden, our_logits
from bert_jax.interop.sentence_transformers import write_modules
from bert_jax.interop.tensor_files import Dtype
from bert_jax.interop.tokenizer_check import SAMPLES, lines_of
from bert_jax.interop.usage import encoder_lines, pytorch_lines, sentence_lines
from bert_jax.run.model_card import model_card
from bert_jax.run.workdir import Run

KINDS = ("pretraining", "encoder", "sentence_transformers")
CARD = "README.md"
ONNX_TEXTS = 256  # texts that a quantized model is compared on
LINES_COMPARED = 2000  # of held-out text, between the run's tokenizer and the exported one


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to write; the fields are the flags of `convert export`."""

    kind: str = "pretraining"
    format: hugging_face.Format = "safetensors"
    dtype: Dtype = "float32"
    pooling: str = "mean"
    normalize: bool = True
    max_length: int = 512
    licence: str = "unknown"
    onnx: bool = False  # write onnx/model.onnx, too
    int8: bool = False  # and onnx/model_int8.onnx


def heldout_lines(run: Run) -> list[str]:
    """Held-out lines of the run's corpus; none if that was deleted."""
    corpus = run.settings.store_directory(run.workdir)
    if not (corpus / MANIFEST).is_file():
        return []
    split = TokenStore.open(corpus).split("heldout")
    return lines_of(split, load_tokenizer(run.tokenizer_directory))[:LINES_COMPARED]


def export(run: Run, out: Path, settings: Settings, texts: list[str]) -> None:
    """Write the folder `out` in full or not at all.

    Args:
      run: to export.
      out: the folder.
      settings: what to write.
      texts: real ones, on which the exported tokenizer must give the same ids as the run's.

    Raises:
      UserError: the run cannot be exported, or `out` holds other files.
    """
    if settings.onnx or settings.int8:
        onnx_export.expect_libraries()

    def write_more(folder: Path) -> None:
        if settings.kind == "sentence_transformers":
            write_modules(
                folder,
                width=run.model.hidden_size,
                pooling=settings.pooling,
                normalize=settings.normalize,
                max_length=settings.max_length,
            )
        card = model_card(
            run,
            out.resolve().name,
            usage(run, Path(out.resolve().name), settings),
            kind=settings.kind,
            licence=settings.licence,
        )
        (folder / CARD).write_text(card, encoding="utf-8")
        if settings.onnx or settings.int8:
            onnx_export.write(folder, run.model, int8=settings.int8)

    hugging_face.export(
        run.params,
        run.model,
        run.tokenizer_directory,
        out,
        settings.format,
        texts,
        kind="pretraining" if settings.kind == "pretraining" else "encoder",
        dtype=settings.dtype,
        write_more=write_more,
    )


def usage(run: Run, folder: Path, settings: Settings) -> str:
    """The lines of Python that load the folder."""
    if settings.kind == "sentence_transformers":
        return sentence_lines(folder)
    if settings.kind == "encoder":
        return encoder_lines(folder)
    tokenizer = load_tokenizer(run.tokenizer_directory)
    return pytorch_lines(folder, tokenizer.piece(tokenizer.vocabulary.mask_id))


def verify(run: Run, out: Path, settings: Settings, texts: list[str]) -> float:
    """The largest difference of the folder's outputs under the peers' libraries from ours.

    With weights of half precision, ours are computed with the same rounded weights.

    Raises:
      NotComparedError: a library is missing or broken.
      UserError: the difference is more than rounding.
    """
    tokenizer = load_tokenizer(run.tokenizer_directory)
    params = hugging_face.rounded(run.params, settings.dtype)
    texts = texts or [text for text in SAMPLES if text.strip()]
    if settings.kind == "pretraining":
        return parity.verify(out, params, run.model, encoded(tokenizer, texts[:TEXTS]))
    if settings.kind == "encoder":
        return parity.verify_encoder(out, params, run.model)
    return _verify_sentences(dataclasses.replace(run, params=params), out, settings, texts[:64])


def verify_onnx(run: Run, out: Path, settings: Settings, texts: list[str]) -> list[str]:
    """Lines that say how far the ONNX files' outputs on text are from ours.

    Raises:
      UserError: the float file's differ by more than rounding.
    """
    tokenizer = load_tokenizer(run.tokenizer_directory)
    texts = texts or [text for text in SAMPLES if text.strip()]
    most = min(128, run.model.max_position_embeddings)
    rows = [row for row in encoded(tokenizer, texts) if 8 <= len(row) <= most][:ONNX_TEXTS]
    path = out / onnx_export.FOLDER / onnx_export.FLOAT
    found = onnx_export.outputs(path, run.model, rows[:TEXTS], tokenizer.vocabulary.pad_id)
    params = hugging_face.rounded(run.params, settings.dtype)
    batch = text_batch(run.model, rows)
    if settings.kind == "pretraining":
        ours = np.asarray(our_logits(run.model, params, batch).mlm_logits)
    else:
        ours = np.asarray(our_hidden(run.model, params, batch))
    pairs = [(mine[: len(theirs)], theirs) for mine, theirs in zip(ours, found, strict=True)]
    difference = parity.expect_close(f"the outputs of {path}", pairs)
    lines = [f"ONNX: at most {difference:.1e} from ours on text."]
    if settings.int8:
        lost = onnx_export.compare(out, run.model, rows, tokenizer.vocabulary)
        what = "masked tokens" if settings.kind == "pretraining" else "sentences"
        lines.append(
            f"int8: on {lost.predictions:,} {what} of {len(rows):,} texts, accuracy "
            f"{lost.quantized_accuracy:.4f}, in float32 {lost.accuracy:.4f}; the same answer for "
            f"{lost.same:.1%}; an output differs by {lost.difference:.2g} at most."
        )
    return lines


def encoded(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    """Ids of texts with special tokens around them."""
    known = tokenizer.vocabulary
    return [
        np.concatenate([[known.cls_id], ids, [known.sep_id]]).astype(np.int32)
        for ids in tokenizer.encode(texts)
    ]


def _verify_sentences(run: Run, out: Path, settings: Settings, texts: list[str]) -> float:
    parity.require_libraries()
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise parity.NotComparedError("sentence-transformers is not installed") from error
    model = SentenceTransformer(str(out), device="cpu", local_files_only=True)
    theirs = model.float().encode(texts, show_progress_bar=False)
    tokenizer = load_tokenizer(run.tokenizer_directory)
    with jax.default_matmul_precision("highest"):
        parts = embed(
            run.params,
            in_float32(run.model),
            tokenizer,
            texts,
            pooling=settings.pooling,
            normalize=settings.normalize,
            max_length=settings.max_length,
        )
        ours = np.concatenate(list(parts))
    what = f"the vectors of {out} under sentence-transformers"
    return parity.expect_close(what, [(ours, theirs)])
