"""The predicted times follow the formulas of docs/scaling.md."""

import pytest

from bert_jax.common.errors import UserError
from bert_jax.performance import scaling
from bert_jax.performance.hlo import Collective
from bert_jax.performance.topology import CHIPS, Slice

MEGABYTES = 64


def all_reduce(chips, is_async=False, kind="all-reduce"):
    """An exchange of 64 MB among all chips."""
    arrays = (("f32", (MEGABYTES * 250_000,)),)
    return Collective(kind, arrays, tuple(range(chips)), 1, is_async, "")


def places(grid):
    """Coordinates of the chips, the last axis fastest."""
    found = [()]
    for size in grid.shape:
        found = [(*place, index) for place in found for index in range(size)]
    return found


def work(*collectives, cycles=15_000_000):
    return scaling.Work(flops=1e12, memory_traffic=1e9, cycles=cycles, collectives=collectives)


def test_an_all_reduce_on_rings_sends_twice_its_bytes_over_all_links():
    grid = Slice.parse("v5e:16x16")
    sent = 2 * MEGABYTES * 1e6 * 255 / 256
    expected = sent / (4 * 50e9) + 2 * 16 * scaling.HOP
    assert scaling.exchange(all_reduce(256), grid, (0, 1)) == pytest.approx(expected)


def test_an_open_line_has_half_the_bandwidth_of_a_ring():
    assert Slice.parse("v5e:4x4").bandwidth((0,)) * 2 == Slice.parse("v5e:16x16").bandwidth((0,))
    assert Slice.parse("v5p:2x4x4").bandwidth((1,)) * 2 == Slice.parse("v5p:4x4x4").bandwidth((1,))


def test_a_gather_sends_half_of_what_an_all_reduce_sends():
    grid = Slice.parse("v5p:4x4x4")
    both = [
        scaling.exchange(all_reduce(64, kind=k), grid, (0, 1, 2))
        for k in ("all-gather", "all-reduce")
    ]
    assert both[1] == pytest.approx(2 * both[0])


def test_the_step_is_the_longest_of_the_chips_own_times_and_what_it_waits_for():
    grid = Slice.parse("v5e:4x4")
    waiting = scaling.times(work(all_reduce(16)), grid, places(grid))
    assert waiting.alone == 15_000_000 / 1.5e9  # the compiler's estimate
    assert waiting.step == waiting.alone + waiting.exposed
    assert waiting.exposed == scaling.exchange(all_reduce(16), grid, (0, 1)) > 0
    overlapped = scaling.times(work(all_reduce(16, is_async=True)), grid, places(grid))
    assert overlapped.step == overlapped.alone
    assert overlapped.efficiency == 1
    slow = scaling.times(work(all_reduce(16, is_async=True), cycles=0), grid, places(grid))
    assert slow.alone == 1e12 / 197e12


def test_weak_scaling_goes_down_where_bandwidth_does_not_go_up():
    grid = Slice.parse("v5e:4x4")
    found = scaling.weak_scaling(work(all_reduce(16)), grid, places(grid), growing=1)
    assert found[16] == scaling.times(work(all_reduce(16)), grid, places(grid))
    assert found[1].efficiency == 1
    assert found[4].efficiency > found[16].efficiency > found[64].efficiency  # open lines
    assert found[256].efficiency > found[64].efficiency  # rings
    assert found[1024].efficiency < found[256].efficiency  # the data-centre network


def test_exchanges_that_do_not_grow_cost_the_same_on_any_slice():
    grid = Slice.parse("v5p:4x4x4")
    found = scaling.weak_scaling(work(all_reduce(4)), grid, places(grid), growing=4)
    assert min(found) == 4
    assert len({times.step for times in found.values()}) == 1


def test_all_slices_of_a_kind_have_their_chips():
    for kind, chip in CHIPS.items():
        sizes = [part.chips for part in Slice.parse(f"{kind}:{chip.slices[0]}").siblings()]
        assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("name", "said"), [("v9:4x4", "v4, v5e, v5p, v6e"), ("v5e:3x3", "2x4"), ("v5e", "2x4")]
)
def test_an_unknown_slice_is_refused_with_those_there_are(name, said):
    with pytest.raises(UserError, match=said):
        Slice.parse(name)
