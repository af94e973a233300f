"""Every backend computes what a plain float64 reference computes, forward and backward."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from bert_jax.common.errors import UserError
from bert_jax.model.attention import attend, choice, pallas, xla
from bert_jax.model.attention.choice import Call
from bert_jax.model.attention.dropped import Dropout
from bert_jax.model.placement import platform_of
from tests.model.attention_reference import (
    GPU_CASES,
    GPU_TOLERANCE,
    HEADS,
    RATE,
    differences,
    dropout_factors,
    dropout_key,
    inputs,
    reference,
    segments,
)


def check(arrays, segment_ids, *, tolerance=2e-6, **options):
    found = differences(arrays, segment_ids, **options)
    assert max(found.values()) <= tolerance, found


LENGTHS = (64, 128, 192, 320, 512, 1024)


@pytest.mark.parametrize("window", [0, 128])
@pytest.mark.parametrize("length", [64, 320, 512])  # windows of 128: dense twice, by blocks once
def test_xla_equals_the_reference(length, window):
    arrays = inputs(length, heads=2 if length < 512 else 1)
    check(arrays, segments("packed", length), window=window, backend="xla")


@pytest.mark.parametrize(("length", "window"), [(500, 9), (777, 128)])
def test_blocks_of_local_layers_need_no_round_length(length, window):
    check(inputs(length, heads=1), segments("packed", length), window=window, backend="xla")


def test_long_rows_are_computed_block_by_block(monkeypatch):
    monkeypatch.setattr(xla, "LONG", 512)
    check(inputs(512, heads=1), segments("packed", 512), backend="xla")
    check(inputs(512, heads=1), segments("packed", 512), window=400, backend="xla")


def test_the_scores_of_long_rows_never_exist_whole():
    projection = jax.ShapeDtypeStruct((1, 8192, 2, 64), jnp.bfloat16)
    ids = jax.ShapeDtypeStruct((1, 8192), jnp.int32)

    def loss(query, segment_ids):
        return attend(query, query, query, segment_ids).sum()

    compiled = jax.jit(jax.grad(loss)).lower(projection, ids).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 0.25 * 4 * 2 * 8192**2


@pytest.mark.parametrize(("length", "window"), [(64, 0), (192, 20), (320, 128)])
def test_pallas_equals_the_reference(length, window):
    check(inputs(length), segments("packed", length), window=window, backend="pallas")


@pytest.mark.parametrize(
    ("backend", "length", "window", "rows"),
    [
        ("xla", 96, 0, "packed"),
        ("xla", 96, 20, "padded"),
        ("xla", 500, 20, "packed"),  # by blocks of a local layer
        ("pallas", 64, 0, "padded"),
        ("pallas", 128, 0, "packed"),
        ("pallas", 192, 20, "packed"),
    ],
)
def test_every_backend_drops_the_same_probabilities(backend, length, window, rows):
    """Forward and backward, as a dense reference that multiplies them by the whole mask."""
    segment_ids = segments(rows, length)
    arrays = inputs(length)
    check(
        arrays,
        segment_ids,
        window=window,
        rows=rows,
        backend=backend,
        has_dropout=True,
        tolerance=4e-6,
    )


def test_long_rows_drop_the_same_probabilities(monkeypatch):
    monkeypatch.setattr(xla, "LONG", 512)
    check(inputs(512, heads=1), segments("packed", 512), backend="xla", has_dropout=True)


@pytest.mark.parametrize(("length", "window"), [(128, 0), (384, 20), (256, 128)])
def test_splash_equals_the_reference(length, window):
    check(inputs(length), segments("packed", length), window=window, backend="splash")


@pytest.mark.parametrize("backend", ["xla", "pallas", "splash"])
def test_bfloat16_stays_near_the_reference(backend):
    """Operands have 8 bits; the softmax between them is float32."""
    segment_ids = segments("packed", 128)
    check(inputs(128), segment_ids, backend=backend, dtype="bfloat16", tolerance=1.5e-2)


@pytest.mark.parametrize("backend", ["pallas", "splash"])
def test_kernels_run_on_each_device_of_a_mesh(backend):
    """Rows over data and fsdp, heads over tensor; no device sees more than its part.

    Dropout does not depend on the mesh either.
    """
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    segment_ids = np.tile(segments("packed", 128), (2, 1))[:4]
    query, key, value, _ = inputs(128, rows=4)

    has_dropout = backend == "pallas"
    factors = dropout_factors(4, 128, HEADS) if has_dropout else 1.0

    @jax.jit
    def mix(*arrays):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            key = dropout_key() if has_dropout else None
            return attend(*arrays, backend=backend, dropout_rate=RATE, dropout_key=key)

    heads = NamedSharding(mesh, P(("data", "fsdp"), None, "tensor"))
    rows = NamedSharding(mesh, P(("data", "fsdp")))
    arrays = [jax.device_put(x, heads) for x in (query, key, value)]
    arrays.append(jax.device_put(segment_ids, rows))
    compiled = mix.lower(*arrays).compile()
    assert "all-gather" not in compiled.as_text()
    expected, *_ = reference(query, key, value, query, segment_ids, 0, factors)
    np.testing.assert_allclose(compiled(*arrays), expected, atol=2e-6)


@pytest.mark.parametrize("window", [0, 16])
def test_dropout_drops_its_share_and_scales_the_rest(window):
    """With equal scores and one-hot values, what comes out are the probabilities themselves."""
    length = 512
    value = jnp.tile(jnp.eye(length)[None, :, None], (1, 1, 2, 1))
    query, ids = jnp.zeros_like(value), jnp.ones((1, length), jnp.int32)

    def mix(key):
        return attend(
            query, query, value, ids, window=window, dropout_rate=0.25, dropout_key=key
        ).swapaxes(1, 2)

    place = np.arange(length)
    seen = np.abs(place[:, None] - place) <= (window // 2 if window else length)
    kept = np.asarray(mix(jax.random.key(0)) * seen.sum(1)[:, None])
    assert not kept[..., ~seen].any()
    kept = kept[..., seen]
    assert abs((kept == 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / kept.size)
    np.testing.assert_allclose(kept[kept != 0], 1 / 0.75, rtol=1e-5)
    np.testing.assert_array_equal(mix(jax.random.key(0)), mix(jax.random.key(0)))
    assert (np.asarray(mix(jax.random.key(1))) != np.asarray(mix(jax.random.key(0)))).any()


GPU = Call("gpu", "bfloat16", 512, 64, window=0, rows="packed", dropout_rate=0.0)
TPU = dataclasses.replace(GPU, platform="tpu")
CHOICES = [
    (TPU, {"platform": "cpu"}, "xla"),
    (TPU, {}, "splash"),
    (TPU, {"window": 128, "length": 1024}, "splash"),
    (TPU, {"dtype": "float32"}, "splash"),
    (TPU, {"length": 192}, "xla"),
    (TPU, {"dropout_rate": 0.1}, "xla"),
    (GPU, {"rows": "padded"}, "cudnn"),
    (GPU, {"rows": "padded", "length": 100}, "cudnn"),
    (GPU, {"rows": "padded", "window": 128}, "pallas"),
    (GPU, {}, "pallas"),
    (GPU, {"window": 128}, "pallas"),
    (GPU, {"length": 100}, "xla"),
    (GPU, {"head_size": 80}, "xla"),
    (GPU, {"dtype": "float32"}, "xla"),
    (GPU, {"dropout_rate": 0.1}, "pallas"),
    (GPU, {"rows": "padded", "dropout_rate": 0.1}, "pallas"),
    (GPU, {"rows": "padded", "dropout_rate": 0.1, "length": 100}, "xla"),
    (GPU, {"dropout_rate": 0.1, "window": 128}, "pallas"),
]


def test_gpus_of_amd_have_neither_cudnn_nor_our_kernel():
    """JAX's name for their platform is gpu, too."""
    device = jax.sharding.AbstractDevice("AMD Instinct MI300X", 304, "gpu")
    assert platform_of(device) == "rocm"
    call = dataclasses.replace(GPU, platform="rocm", rows="padded")
    assert choice.choose(call) == "xla"
    for backend in ("cudnn", "pallas"):
        with pytest.raises(UserError, match="needs an NVIDIA GPU, and this is a rocm"):
            choice.resolve(backend, call)


@pytest.mark.parametrize(("call", "changes", "expected"), CHOICES, ids=str)
def test_auto_takes_the_best_that_can(call, changes, expected):
    assert choice.choose(dataclasses.replace(call, **changes)) == expected


REFUSALS = [
    ("cudnn", TPU, {}, "GPU"),
    ("cudnn", GPU, {"dtype": "float32"}, "compute_dtype"),
    ("cudnn", GPU, {"head_size": 36}, "hidden_size"),
    ("cudnn", GPU, {}, "packed"),
    ("cudnn", GPU, {"rows": "padded", "window": 128}, "local_attention"),
    ("cudnn", GPU, {"rows": "padded", "dropout_rate": 0.1}, "attention_dropout"),
    ("pallas", TPU, {}, "GPU"),
    ("pallas", GPU, {"dtype": "float32"}, "compute_dtype"),
    ("pallas", GPU, {"head_size": 80}, "hidden_size"),
    ("pallas", GPU, {"length": 100}, "sequence_length"),
    ("splash", GPU, {}, "TPU"),
    ("splash", TPU, {"length": 192}, "sequence_length"),
    ("splash", TPU, {"dropout_rate": 0.1}, "attention_dropout"),
]


@pytest.mark.parametrize(("backend", "call", "changes", "named"), REFUSALS, ids=str)
def test_a_backend_refuses_what_it_cannot_do(backend, call, changes, named):
    with pytest.raises(UserError, match=rf"config\.model\.attention_backend={backend}.*{named}"):
        choice.resolve(backend, dataclasses.replace(call, **changes))


def test_a_dense_fallback_on_a_gpu_says_why_and_what_it_costs():
    call = dataclasses.replace(GPU, head_size=80)
    assert choice.resolve("auto", call) == "xla"
    text = choice.explain("xla", call, rows=8, heads=12)
    assert "packed rows of 512 tokens, whole rows: xla" in text
    assert "pallas needs a head width" in text
    assert "hidden_size" in text
    assert "96 MB" in text  # 8 x 12 x 512 x 512 x 4 bytes
    assert choice.explain("xla", dataclasses.replace(call, platform="cpu"), 8, 12).endswith("xla")


@pytest.mark.parametrize(
    ("length", "window", "rate"), [(128, 0, 0.0), (1024, 128, 0.0), (128, 0, 0.1)]
)
def test_the_gpu_kernels_are_made_for_cuda(length, window, rate):
    """Triton's intermediate code is built and verified without a GPU: three kernels a layer."""
    projection = jax.ShapeDtypeStruct((2, length, 2, 64), jnp.bfloat16)
    ids = jax.ShapeDtypeStruct((2, length), jnp.int32)

    def loss(query, segment_ids):
        dropout = Dropout.create(rate, dropout_key(), heads=2)
        mixed = pallas.attend(query, query, query, segment_ids, window, False, dropout)
        return mixed.sum()

    gpu = jax.sharding.AbstractDevice("NVIDIA H200", 132, "gpu")  # JAX 0.12 asks which one
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=gpu)
    with jax.sharding.use_abstract_mesh(mesh):
        traced = jax.jit(jax.grad(loss)).trace(projection, ids)
        lowered = traced.lower(lowering_platforms=("cuda",))
    assert lowered.as_text().count("xla.gpu.triton") == 3


def test_a_packed_row_reads_the_blocks_of_its_documents_alone():
    ranges = pallas.visible_ranges(jnp.asarray([[1, 1, 1, 2, 3, 3, 0, 0]]), window=0)
    np.testing.assert_array_equal(ranges.first, [[0, 0, 0, 3, 4, 4, 6, 6]])
    np.testing.assert_array_equal(ranges.last, [[3, 3, 3, 4, 6, 6, 8, 8]])
    ranges = pallas.visible_ranges(jnp.asarray([[1, 1, 1, 1, 1, 2, 2, 2]]), window=2)
    np.testing.assert_array_equal(ranges.first, [[0, 0, 1, 2, 3, 5, 5, 6]])
    np.testing.assert_array_equal(ranges.last, [[2, 3, 4, 5, 5, 7, 8, 8]])


on_a_gpu = pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU")


@on_a_gpu
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    ("backend", "rows", "window", "has_dropout"),
    GPU_CASES,
)
def test_on_a_gpu(backend, rows, length, window, has_dropout):
    arrays = inputs(length, heads=4, width=64)
    check(
        arrays,
        segments(rows, length),
        window=window,
        rows=rows,
        backend=backend,
        has_dropout=has_dropout,
        dtype="bfloat16",
        tolerance=GPU_TOLERANCE,
    )
