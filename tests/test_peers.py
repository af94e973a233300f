"""The peer gets the same batches."""

import numpy as np

from bert_jax import peers


def test_labels_stand_where_predictions_count():
    batch = {
        "input_ids": np.array([[2, 7, 8, 3]], np.int32),
        "token_type_ids": np.zeros((1, 4), np.int32),
        "position_ids": np.arange(4, dtype=np.int32)[None],
        "segment_ids": np.array([[1, 1, 1, 0]], np.int32),
        "masked_positions": np.array([[2, 0]], np.int32),
        "masked_labels": np.array([[9, 5]], np.int32),
        "masked_weights": np.array([[1, 0]], np.float32),
    }
    found = peers.labelled(batch, "BertForMaskedLM")
    assert found["labels"].tolist() == [[-100, -100, 9, -100]]
    assert found["attention_mask"].tolist() == [[1, 1, 1, 0]]
