import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.config import default_config, parse
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.evaluation import EvaluationBatches
from bert_jax.stream.rows import digest
from bert_jax.training import objectives
from tests.stream.parts import assert_equal, joined, part

OBJECTIVES = {
    name: objective.from_config(default_config())
    for name, objective in objectives.OBJECTIVES.items()
}


@pytest.mark.parametrize("objective", ["packed", "nsp", "sop"])
@pytest.mark.parametrize("processes", [2, 4, 8])
def test_any_number_of_processes_builds_the_same_batch(store, config, objective, processes):
    config.stream.objective = objective
    batches = TrainBatches(store, parse(config).stream)
    for step in (0, 17, 49):
        parts = [batches.batch(step, part(i, processes)) for i in range(processes)]
        assert_equal(joined(parts), batches.batch(step))


@settings(max_examples=20, deadline=None)
@given(rows=st.sets(st.integers(0, 15)).map(sorted), objective=st.sampled_from(["packed", "nsp"]))
def test_rows_of_a_process_need_not_be_one_range(store, rows, objective):
    config = default_config()
    config.total_steps, config.stream.sequence_length, config.seed = 50, 32, 7
    config.global_batch_size, config.stream.objective = 16, objective
    held = np.array(rows, np.int64)
    batches = TrainBatches(store, parse(config).stream)
    whole = batches.batch(17)
    own = batches.batch(17, lambda _: held)
    assert_equal(own, {name: array[held] for name, array in whole.items()})
    arguments = store, "heldout", OBJECTIVES[objective], 32, 16
    whole = EvaluationBatches(*arguments)
    last = len(whole) - 1
    own = EvaluationBatches(*arguments, lambda _: held).batch(last)
    assert_equal(own, {name: array[held] for name, array in whole.batch(last).items()})


@pytest.mark.parametrize("objective", ["packed", "nsp"])
def test_every_example_once_an_epoch_though_batches_straddle_it(store, config, objective):
    config.stream.objective = objective
    config.total_steps = 1000
    batches = TrainBatches(store, parse(config).stream)
    (phase,) = batches.settings.phases
    size = batches.num_examples(phase)
    assert size % phase.global_batch_size
    steps = 3 * phase.global_batch_size  # whole batches that end with three epochs
    order = [batches.example_index(step) for step in range(3 * size // 8 + steps)]
    index = np.concatenate(order)[: 3 * size].reshape(3, size)
    assert np.array_equal(np.sort(index), np.tile(np.arange(size), (3, 1)))
    assert not np.array_equal(index[0], index[1])


def test_masks_differ_between_epochs(store, config):
    config.global_batch_size = 1
    config.total_steps = 10**6
    batches = TrainBatches(store, parse(config).stream)
    size = batches.num_examples(batches.settings.phases[0])
    seen = {}
    for step in range(4 * size):
        index = batches.example_index(step).item()
        positions = batches.batch(step)["masked_positions"].tobytes()
        seen.setdefault(index, set()).add(positions)
    assert np.mean([len(positions) for positions in seen.values()]) > 3.9


@settings(max_examples=10, deadline=None)
@given(step=st.integers(0, 49), other=st.integers(0, 49))
def test_batches_depend_on_the_step_alone(store, step, other):
    config = default_config()
    config.total_steps, config.stream.sequence_length, config.seed = 50, 32, 7
    batches = TrainBatches(store, parse(config).stream)
    batches.batch(other)
    assert_equal(batches.batch(step), TrainBatches(store, parse(config).stream).batch(step))


def test_far_steps_are_as_good_as_near_ones(store, config):
    config.total_steps = 10**12
    batches = TrainBatches(store, parse(config).stream)
    size = batches.num_examples(batches.settings.phases[0])
    first = 10**11 - 10**11 % size  # 8 rows a step: an epoch begins
    index = np.concatenate([batches.example_index(first + i) for i in range(size // 8 + 1)])
    assert np.array_equal(np.sort(index[:size]), np.arange(size))
    masked = batches.batch(first)["masked_weights"].sum(axis=1)
    assert np.all(masked >= 4)


def test_digest_tells_batches_apart(store, config):
    batches = TrainBatches(store, parse(config).stream)
    batch = batches.batch(3)
    assert digest(batch) == digest(TrainBatches(store, parse(config).stream).batch(3))
    assert digest(batch) != digest(batches.batch(4))
    for name, array in batch.items():
        changed = array.copy()
        changed[-1, -1] += 1
        assert digest(batch) != digest(batch | {name: changed})
        assert digest(batch) != digest(batch | {name: array.astype(np.int64)})


def test_seeds_have_their_own_batches(store, config):
    one = TrainBatches(store, parse(config).stream).batch(0)
    config.seed = 8
    other = TrainBatches(store, parse(config).stream).batch(0)
    assert not np.array_equal(one["input_ids"], other["input_ids"])
    assert not np.array_equal(one["masked_positions"], other["masked_positions"])


def test_mask_rate_follows_its_schedule(store, config):
    config.global_batch_size, config.stream.sequence_length = 16, 128
    config.stream.mask_rate, config.stream.final_mask_rate = 0.3, 0.1
    batches = TrainBatches(store, parse(config).stream)
    for step in (0, 25, 49):
        batch = batches.batch(step)
        assert batch["masked_weights"].shape == (16, 39)
        tokens = np.count_nonzero(batch["segment_ids"], axis=1)
        wanted = np.rint((0.3 - 0.2 * step / 50) * tokens)
        assert np.array_equal(batch["masked_weights"].sum(axis=1), wanted)


def test_phases_have_their_shapes_and_continue_the_epoch(store, config):
    config.stream.phases = (
        {"until": 0.2, "mask_rate": 0.3},
        {"until": 0.4, "sequence_length": 64, "global_batch_size": 4},
        {"until": 1.0, "global_batch_size": 16},
    )
    batches = TrainBatches(store, parse(config).stream)
    shapes = [
        (batches.batch(step)["input_ids"].shape, batches.batch(step)["masked_labels"].shape)
        for step in (9, 10, 20)
    ]
    assert shapes == [((8, 32), (8, 10)), ((4, 64), (4, 10)), ((16, 32), (16, 5))]
    config.stream.phases = ()
    unbroken = TrainBatches(store, parse(config).stream)
    continued = [unbroken.example_index(step) for step in (10, 11)]
    assert np.array_equal(batches.example_index(20), np.concatenate(continued))


def test_a_phase_masks_as_it_says(store, config):
    config.stream.phases = (
        {"until": 0.2},
        {"until": 0.6, "mask_unit": "word", "mask_replace_prob": 1, "random_replace_prob": 0},
        {"until": 1.0, "mask_replace_prob": 0.0, "random_replace_prob": 1.0},
    )
    found = TrainBatches(store, parse(config).stream)

    def alone(**settings):
        """The same batches in a run that masks so from its first step to its last."""
        config.stream.phases = ()
        config.stream.update(settings)
        return TrainBatches(store, parse(config).stream)

    assert_equal(found.batch(9), alone().batch(9))
    of_words = alone(mask_unit="word", mask_replace_prob=1.0, random_replace_prob=0.0)
    assert_equal(found.batch(29), of_words.batch(29))
    assert_equal(
        found.batch(30),
        alone(mask_unit="token", mask_replace_prob=0.0, random_replace_prob=1.0).batch(30),
    )
    assert np.any(found.batch(29)["input_ids"] == store.vocabulary.mask_id)
    assert not np.any(found.batch(30)["input_ids"] == store.vocabulary.mask_id)


@pytest.mark.parametrize("objective", ["packed", "nsp"])
def test_evaluation_has_every_example_once_and_pads_the_last_batch(store, config, objective):
    whole = EvaluationBatches(store, "heldout", OBJECTIVES[objective], 32, 1000)
    assert len(whole) == 1
    reference = whole.batch(0)
    size = np.count_nonzero(reference["segment_ids"][:, 0])
    batches = EvaluationBatches(store, "heldout", OBJECTIVES[objective], 32, 7)
    assert len(batches) == -(-size // 7)
    together = joined([batches.batch(i) for i in range(len(batches))])
    assert len(together["input_ids"]) > size
    for name, array in together.items():
        assert np.array_equal(array[:size], reference[name][:size])
        empty = -1 if name == "next_sentence_label" else 0
        assert np.all(array[size:] == empty)
        assert array.dtype == reference[name].dtype


@pytest.mark.parametrize("objective", ["packed", "nsp"])
@pytest.mark.parametrize("count", [2, 4])
def test_evaluation_is_the_same_on_any_number_of_processes(store, objective, count):
    whole = EvaluationBatches(store, "heldout", OBJECTIVES[objective], 32, 8)
    parts = [
        EvaluationBatches(store, "heldout", OBJECTIVES[objective], 32, 8, part(i, count))
        for i in range(count)
    ]
    for index in range(len(whole)):
        assert_equal(joined([p.batch(index) for p in parts]), whole.batch(index))


@pytest.mark.parametrize("objective", ["packed", "nsp"])
def test_a_process_may_have_padding_rows_alone(store, objective):
    whole = EvaluationBatches(store, "heldout", OBJECTIVES[objective], 32, 1000).batch(0)
    own = EvaluationBatches(store, "heldout", OBJECTIVES[objective], 32, 1000, part(3, 4)).batch(0)
    assert not own["segment_ids"].any()
    assert_equal(own, {name: array[750:] for name, array in whole.items()})


@pytest.mark.parametrize(
    ("objective", "unit", "expected"),
    [
        ("packed", "token", ["fe0a5f35", "1f6217f3", "122dfd87"]),
        ("packed", "word", ["1ceeb4aa", "ac32b3c2", "7ba7c9ad"]),
        ("packed", "span", ["66b794ee", "0a32c44f", "e8cdf348"]),
        ("nsp", "token", ["97440197", "0575e8c9", "76daa7d8"]),
        ("nsp", "word", ["bdd68ebf", "8d02cdb7", "299a3a52"]),
        ("sop", "word", ["fcf33c28", "9222fc41", "408fa237"]),
    ],
)
def test_train_batches_never_change(store, config, objective, unit, expected):
    config.stream.objective, config.stream.mask_unit = objective, unit
    batches = TrainBatches(store, parse(config).stream)
    assert [digest(batches.batch(step))[:8] for step in (0, 1, 49)] == expected


@pytest.mark.parametrize(
    ("objective", "expected"),
    [("packed", "d0d26d61c5b74816"), ("nsp", "ad53895c754eb6d0"), ("sop", "b2520eecb29df084")],
)
def test_evaluation_batches_never_change(store, objective, expected):
    batches = EvaluationBatches(store, "heldout", OBJECTIVES[objective], 32, 8)
    assert digest(joined([batches.batch(index) for index in range(len(batches))]))[:16] == expected
