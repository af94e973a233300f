from fractions import Fraction

import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import parse
from bert_jax.stream.phases import batch_size_warmup


def test_one_phase_by_default(config):
    (phase,) = parse(config).stream.phases
    assert (phase.start, phase.stop, phase.sequence_length) == (0, 50, 32)
    assert (phase.global_batch_size, phase.mask_rate, phase.max_predictions) == (8, 0.15, 5)


def test_phases_follow_each_other_and_continue_the_counter_of_their_length(config):
    config.stream.phases = (
        {"until": 0.5, "mask_rate": 0.3},
        {"until": 0.7, "sequence_length": 64, "global_batch_size": 4},
        {"until": 0.9, "global_batch_size": 16},
        {"until": 1.0, "sequence_length": 64},
    )
    found = parse(config).stream.phases
    assert [(p.start, p.stop) for p in found] == [(0, 25), (25, 35), (35, 45), (45, 50)]
    assert [p.max_predictions for p in found] == [10, 10, 5, 10]
    assert [p.first_example for p in found] == [0, 0, 25 * 8, 10 * 4]
    assert [p.index for p in found] == [0, 1, 2, 3]


def test_mask_rate_goes_linearly_to_its_end(config):
    config.stream.mask_rate, config.stream.final_mask_rate = 0.3, 0.15
    (phase,) = parse(config).stream.phases
    assert phase.max_predictions == 10
    rates = [phase.mask_rate_at(step) for step in (0, 25, 50)]
    assert rates == pytest.approx([0.3, 0.225, 0.15])
    config.stream.final_mask_rate = 0.0
    (phase,) = parse(config).stream.phases
    assert phase.mask_rate_at(49) == 0.3


PHASES_OF_TWO_LENGTHS = ({"until": 0.3}, {"until": 1.0, "sequence_length": 64})


@pytest.mark.parametrize(
    "phases_of_run", [PHASES_OF_TWO_LENGTHS, batch_size_warmup(8, 64, until=0.5, stages=3)]
)
def test_the_mask_rate_of_the_run_moves_on_over_the_borders_of_phases(config, phases_of_run):
    config.stream.mask_rate, config.stream.final_mask_rate = 0.3, 0.15
    (unbroken,) = parse(config).stream.phases
    config.stream.phases = phases_of_run
    found = parse(config).stream.phases
    assert len(found) >= 2
    rates = [phase.mask_rate_at(step) for phase in found for step in range(phase.start, phase.stop)]
    assert rates == pytest.approx([unbroken.mask_rate_at(step) for step in range(50)])
    for phase in found:
        highest = phase.mask_rate * phase.sequence_length
        assert highest <= phase.max_predictions < highest + 1


def test_a_mask_rate_of_a_phase_runs_over_that_phase_alone(config):
    config.stream.mask_rate, config.stream.final_mask_rate = 0.3, 0.1
    config.stream.phases = (
        {"until": 0.2},
        {"until": 0.4, "mask_rate": 0.5},
        {"until": 0.6, "final_mask_rate": 0.4},
        {"until": 0.8, "mask_rate": 0.2, "final_mask_rate": 0.6},
        {"until": 1.0},
    )
    rates = [(phase.mask_rate, phase.final_mask_rate) for phase in parse(config).stream.phases]
    expected = [(0.3, 0.26), (0.5, 0.5), (0.22, 0.4), (0.2, 0.6), (0.14, 0.1)]
    assert [rate for pair in rates for rate in pair] == pytest.approx(
        [rate for pair in expected for rate in pair]
    )


def test_the_rotary_base_goes_with_the_phase(config):
    config.model.position, config.model.rope_theta = "rotary", 10_000.0
    config.stream.phases = ({"until": 0.5}, {"until": 1.0, "rope_theta": 160_000})
    bases = [parse(config).stream.phase_before(step).rope_theta for step in (0, 25, 26, 50)]
    assert bases == [10_000.0, 10_000.0, 160_000.0, 160_000.0]
    config.model.position = "learned"
    with pytest.raises(UserError, match=r"phases\[1\]\.rope_theta=160000 .*'learned'"):
        parse(config)


def test_batch_size_warms_up(config):
    config.total_steps = 1000
    config.stream.phases = batch_size_warmup(32, 256, until=0.3, stages=3)
    found = parse(config).stream.phases
    assert [p.global_batch_size for p in found] == [32, 64, 128, 256]
    assert [p.start for p in found] == [0, 100, 200, 300]
    assert [p.first_example for p in found] == [0, 3200, 9600, 22400]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("objective", "mlm", r"objective='mlm'"),
        ("mask_rate", 0.0, r"config\.stream\.mask_rate=0\.0"),
        ("final_mask_rate", 1.5, r"config\.stream\.final_mask_rate=1\.5"),
        ("mask_unit", "sentence", r"mask_unit='sentence' is none of token, word, span"),
        ("mask_rate", 1.5, r"config\.stream\.mask_rate=1\.5"),
        ("mask_replace_prob", 0.95, "more than 1 together"),
        ("random_replace_prob", -0.1, r"random_replace_prob=-0\.1"),
        ("sequence_length", 4, "below 8"),
        ("sequence_length", 513, r"config\.model\.max_position_embeddings=512"),
        ("phases", ({"until": 0.5},), r"until=1\.0"),
        ("phases", ({"until": 0.5}, {"until": 0.4}), "ascend"),
        ("phases", ({"length": 64},), r"phases\[0\].*'length'"),
        ("phases", ({"sequence_length": 1000},), r"phases\[0\]\.sequence_length=1000"),
        ("phases", ({"global_batch_size": "8"},), r"phases\[0\]\.global_batch_size='8'"),
        ("phases", ({"global_batch_size": True},), r"phases\[0\]\.global_batch_size=True"),
        ("phases", ({"until": "x"},), r"phases\[0\]\.until='x' is not a number"),
        ("phases", ({"until": 1.5},), r"phases\[0\]\.until=1\.5 is not a share"),
        ("phases", ({"until": float("nan")},), r"phases\[0\]\.until=nan is not a share"),
        ("phases", ({"mask_unit": "w"},), r"phases\[0\]\.mask_unit='w' is none of token, word"),
        ("phases", ({"mask_unit": 1},), r"phases\[0\]\.mask_unit=1 is not a text"),
        (
            "phases",
            ({"mask_replace_prob": 1.1},),
            r"phases\[0\]\.mask_replace_prob=1\.1 is not a share",
        ),
        (
            "phases",
            ({"mask_replace_prob": 1},),
            r"\.mask_replace_prob=1 and config\.stream\.random_replace_prob=0\.1",
        ),
        ("phases", ({"mask_rate": None},), r"phases\[0\]\.mask_rate=None is not a number"),
        ("phases", ({"weights": 3},), r"phases\[0\]\.weights=3 is not a dict or a text"),
        ("phases", ({"weights": "a=1"}, {"weights": "a"}), r"phases\[1\]\.weights='a'"),
        (
            "phases",
            ({"until": 0.5}, {"weights": "a=1, x=2"}),
            "x=2' of phase 1 .* no source 'x'; it",
        ),
        ("weights", "x=2", "has no source 'x'; it has a, b, c, d, lonely"),
        ("phases", (1.0,), r"phases\[0\]=1\.0 is not a dict of until"),
        ("phases", ("until",), r"phases\[0\]='until' is not a dict of until"),
    ],
)
def test_what_makes_no_sense_is_refused(config, field, value, message):
    config.stream[field] = value
    with pytest.raises(UserError, match=message):
        parse(config)


def test_a_share_of_short_pairs_beyond_one_is_refused(config):
    config.stream.objective, config.stream.short_fraction = "nsp", 2.0
    with pytest.raises(UserError, match=r"short_fraction=2\.0"):
        parse(config)


def test_weights_may_be_a_dict_in_a_config_file(config):
    config.stream.phases = (
        {"until": 0.5, "weights": {"a": 0.75, "b": 1}},
        {"weights": "a=0.75, b=1"},
    )
    one, other = parse(config).stream.phases
    assert one.weights == other.weights == (("a", Fraction(3, 4)), ("b", Fraction(1)))
