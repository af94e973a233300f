"""The peer gets the same batches."""

import numpy as np

from bert_jax.performance import peers, turns


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


def test_sides_are_compared_round_by_round_and_padding_is_not_counted():
    ours, other = (turns.Side.__new__(turns.Side) for _ in range(2))
    ours.name, ours.rounds = "bert_jax", [[1.0, 1.0], [2.0]]
    other.name, other.rounds = "other", [[3.0], [8.0]]
    for side in (ours, other):
        side.first_step, side.peak_bytes = 9.0, 2**30
    found = peers.result(other, ours, tokens=12.0)
    assert found.times_ours == [3.0, 4.0]
    assert found.tokens_per_second == 12.0 / 5.5
    table = peers.table([peers.result(ours, ours, 12.0), found])
    assert "3.50" in table
    assert "1.0 GiB" in table
