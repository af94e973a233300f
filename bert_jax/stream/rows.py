"""The arrays of a batch, and helpers for the rows of every objective."""

import hashlib

import numpy as np
from jaxtyping import Int32, Int64

from bert_jax.corpus.tokenizers.vocabulary import Vocabulary

# A batch on the host: arrays of fixed shapes, B rows of L tokens with up to P predictions each.
# `model.Batch` is the same on devices.
#   input_ids token_type_ids        int32 [B, L]
#   position_ids                    int32 [B, L], from 0 in every document
#   segment_ids                     int32 [B, L], the document in the row from 1 on; 0 is padding
#   next_sentence_label             int32 [B], of pairs only: 0 follows, 1 does not
# and after masking also
#   masked_positions masked_labels  int32 [B, P], positions ascending
#   masked_weights                  float32 [B, P], 1 for predictions, 0 where unused
Batch = dict[str, np.ndarray]


def framed_rows(
    ids: Int32[np.ndarray, "B L"], length: Int64[np.ndarray, "B"], vocabulary: Vocabulary
) -> Batch:
    """Numbers the documents of each row and the tokens of each document.

    Args:
      ids: rows that begin with [CLS] and have one at the start of each further document.
      length: tokens of each row; the rest is padding.
      vocabulary: of the ids.
    """
    rows, columns = ids.shape
    padding = np.arange(columns, dtype=np.int32) >= length[:, None].astype(np.int32)
    np.copyto(ids, vocabulary.pad_id, where=padding)
    starts = np.flatnonzero(ids == vocabulary.cls_id).astype(np.int32)
    sizes = np.diff(starts, append=np.int32(ids.size))
    row_of_start = starts // columns
    first_start = np.searchsorted(row_of_start, np.arange(rows, dtype=np.int32))
    number = np.arange(1, len(starts) + 1) - first_start[row_of_start]
    token = np.arange(ids.size, dtype=np.int32)
    position_ids = (token - np.repeat(starts, sizes)).reshape(ids.shape)
    segment_ids = np.repeat(number.astype(np.int32), sizes).reshape(ids.shape)
    np.copyto(position_ids, 0, where=padding)
    np.copyto(segment_ids, 0, where=padding)
    return {
        "input_ids": ids,
        "token_type_ids": np.zeros_like(ids),
        "position_ids": position_ids,
        "segment_ids": segment_ids,
    }


def digest(batch: Batch) -> str:
    """A hash of everything in a batch.

    Saved with a checkpoint, to check that a resumed run continues with the same stream.
    """
    hashed = hashlib.sha256()
    for name, array in sorted(batch.items()):
        hashed.update(f"{name} {array.dtype.str} {array.shape};".encode())
        hashed.update(np.ascontiguousarray(array))
    return hashed.hexdigest()[:32]
