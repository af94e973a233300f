"""`auto` is bfloat16 where a device computes it fast."""

from types import SimpleNamespace

import pytest

from bert_jax.model.compute_dtype import fast_dtype


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("fpu avx2 fma", "float32"),
        ("avx512f avx512vl", "float32"),
        ("avx512f avx512_bf16", "bfloat16"),
        ("amx_bf16 avx512f", "bfloat16"),
    ],
)
def test_processors(flags, dtype, tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text(f"flags\t\t: {flags}\n")
    assert fast_dtype(device("cpu", "cpu"), info) == dtype
    assert fast_dtype(device("cpu", "cpu"), tmp_path / "none") == "float32"


@pytest.mark.parametrize(
    ("facts", "dtype"),
    [
        (("cuda", "NVIDIA H100", "9.0"), "bfloat16"),
        (("cuda", "Tesla T4", "7.5"), "float32"),
        (("tpu", "TPU v5 lite", None), "bfloat16"),
    ],
)
def test_accelerators(facts, dtype):
    assert fast_dtype(device(*facts)) == dtype


def device(platform, kind, capability=None):
    """The facts that JAX reports of a device, without the device."""
    facts = {"platform": platform, "device_kind": kind}
    return SimpleNamespace(**facts, **({"compute_capability": capability} if capability else {}))
