"""What is read from a compiled program: on programs small enough to know what they exchange."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from bert_jax.performance import hlo

PARTS = P("a", "b")


def program(body, spec_out=PARTS, sizes=(2, 4)):
    """The compiled text of a function of a device's part of a float32 [8, 16] array."""
    mesh = jax.make_mesh(sizes, ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    spread = jax.shard_map(body, mesh=mesh, in_specs=PARTS, out_specs=spec_out, check_vma=False)
    return jax.jit(spread).lower(jnp.zeros((8, 16))).compile().as_text()


def only(text):
    (collective,) = hlo.collectives(text)
    return collective


def test_all_reduce_counts_what_each_device_holds():
    found = only(program(lambda x: jax.lax.psum(x, "b")))
    assert (found.kind, found.group, found.size) == ("all-reduce", (0, 1, 2, 3), 4 * 4 * 4)
    assert found.arrays == (("f32", (4, 4)),)


def test_all_gather_counts_what_comes_together():
    body = lambda x: jax.lax.all_gather(x, "a", tiled=True)  # noqa: E731
    found = only(program(body, spec_out=P(None, "b")))
    assert (found.kind, found.group, found.arrays) == ("all-gather", (0, 4), (("f32", (8, 4)),))


def test_reduce_scatter_counts_what_is_reduced():
    body = lambda x: jax.lax.psum_scatter(x, "b", tiled=True)  # noqa: E731
    found = only(program(body, spec_out=P(("a", "b"), None)))
    assert (found.kind, found.size) in [("reduce-scatter", 4 * 4 * 4), ("all-reduce", 4 * 4 * 4)]


def test_exchanges_in_a_loop_count_as_often_as_it_runs():
    def body(x):
        return jax.lax.scan(lambda y, _: (jnp.sin(jax.lax.psum(y, "a")), None), x, length=5)[0]

    found = only(program(body))
    assert (found.times, found.group, found.total) == (5, (0, 4), 5 * 64)


def test_an_exchange_of_one_device_with_itself_is_none():
    assert not hlo.collectives(program(lambda x: jax.lax.psum(x, "a"), sizes=(1, 8)))


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("replica_groups={{0,2},{1,3}}", (0, 2)),
        ("replica_groups=[2,4]<=[8]", (0, 1, 2, 3)),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", (0, 2, 4, 6)),
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}", (0, 1, 2, 3)),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", (0, 1, 2, 3, 4, 5, 6, 7)),
        ("replica_groups=mesh['a'=8] {'a':(2)4}", (0, 1, 2, 3)),
        ("replica_groups=mesh['a'=8] {'a':(1)2}", (0, 4)),
        ("replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}", (0, 4)),
    ],
)
def test_groups_of_devices_in_all_their_spellings(groups, expected):
    line = f"  %x = f32[2]{{0}} all-reduce(%p), {groups}, to_apply=%add"
    text = f"HloModule m\n\nENTRY %main (p: f32[2]) -> f32[2] {{\n{line}\n}}\n"
    assert only(text).group == expected


TPU_TEXT = """HloModule m, input_output_alias={ {0}: (0, {}, may-alias), {1}: (2, {}, must-alias) }

%all-reduce-scatter (p: bf16[8,4]) -> bf16[2,4] {
  %p = bf16[8,4]{1,0} parameter(0)
  %sum = bf16[8,4]{1,0} all-reduce(%p), replica_groups=[1,4]<=[4], to_apply=%add
  ROOT %part = bf16[2,4]{1,0} dynamic-slice(%sum, %p), dynamic_slice_sizes={2,4}
}

ENTRY %main (a: bf16[8,4]) -> bf16[2,4] {
  %a = bf16[8,4]{1,0:T(8,128)} parameter(0)
  %copy-start = (bf16[8,4]{1,0:S(1)}, bf16[8,4]{1,0}, u32[]{:S(2)}) copy-start(%a)
  %copy-done = bf16[8,4]{1,0:S(1)} copy-done(%copy-start)
  %b = bf16[8,4]{1,0} fusion(%copy-done), calls=%f, backend_config={"estimated_cycles":"70"}
  ROOT %c = bf16[2,4]{1,0:S(1)} fusion(%b), kind=kCustom, calls=%all-reduce-scatter
}

%f (q: bf16[8,4]) -> bf16[8,4] {
  ROOT %q = bf16[8,4]{1,0} parameter(0)
}
"""


def test_a_tpu_program_tells_its_scatters_its_cycles_its_traffic_and_its_donations():
    found = only(TPU_TEXT)
    assert (found.kind, found.group, found.size) == ("reduce-scatter", (0, 1, 2, 3), 64)
    assert hlo.estimated_cycles(TPU_TEXT) == 70
    assert hlo.memory_traffic(TPU_TEXT) == 3 * 64  # a is read, b is written and read
    assert hlo.donated(TPU_TEXT) == 2
