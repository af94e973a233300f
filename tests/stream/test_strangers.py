"""From the stream's segment_ids to the model's predictions: documents do not see each other."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bert_jax import model as model_lib
from bert_jax.config import parse
from bert_jax.stream.batches import TrainBatches
from tests.architectures import MODERN


def test_a_document_of_a_packed_row_is_predicted_from_itself_alone(store, config):
    config.stream.sequence_length = 64
    batch = TrainBatches(store, parse(config).stream).batch(3)
    structure, shapes = model_lib.abstract(MODERN)
    generator = np.random.default_rng(0)  # any parameters will do, and these need no compilation
    params = jax.tree.map(lambda leaf: jnp.array(generator.normal(0, 0.2, leaf.shape)), shapes)
    predict = jax.jit(lambda batch: nnx.merge(structure, params)(batch).mlm_logits)

    before = predict(batch)
    segments = batch["segment_ids"]
    row = np.arange(len(segments))[:, None]
    is_counted = batch["masked_weights"] > 0
    segment_of = np.where(is_counted, segments[row, batch["masked_positions"]], 0)
    assert segments.max() >= 3
    for document in range(segments.max() + 1):  # 0 is the padding
        ids = np.where(segments == document, 5 + (batch["input_ids"] + 1) % 50, batch["input_ids"])
        after = predict(batch | {"input_ids": ids})
        of_others = is_counted & (segment_of != document)
        np.testing.assert_array_equal(after[of_others], before[of_others])
        of_document = segment_of == document
        if document and of_document.any():
            assert not np.allclose(after[of_document], before[of_document])
