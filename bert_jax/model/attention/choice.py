"""Which backend computes the attention, decided from what is known at trace time.

Every backend has one function, `obstacle(call)`: the reason why it cannot compute a call and the
fix, or an empty text. If the backend that the config names has an obstacle, the run is refused;
`auto` takes the first of PREFERRED for the device that has none.
"""

import dataclasses

from bert_jax.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Call:
    """What is known at trace time of one call of `attend`."""

    platform: str  # cpu | gpu (NVIDIA) | rocm | tpu
    dtype: str
    length: int
    head_size: int
    window: int  # 0: none
    rows: str  # packed: several documents a row | padded: one, and padding after it
    dropout_rate: float  # 0: none

    @property
    def is_interpreted(self) -> bool:
        """Whether kernels are interpreted: on a CPU, which is slow and only for tests."""
        return self.platform == "cpu"


def effective_window(window: int, length: int) -> int:
    """0 for a window that covers whole rows of this length."""
    return 0 if window // 2 >= length - 1 else window


def _without_dropout(call: Call) -> str:
    if call.dropout_rate:
        return (
            f"does not drop attention probabilities (config.model.attention_dropout "
            f"{call.dropout_rate}): set it to 0"
        )
    return ""


def xla_obstacle(call: Call) -> str:
    """None: the reference supports every call on every device."""
    del call
    return ""


def cudnn_obstacle(call: Call) -> str:
    """CuDNN's fused attention, as far as `jax.nn.dot_product_attention` exposes it."""
    if call.platform != "gpu":
        return f"needs an NVIDIA GPU, and this is a {call.platform}: choose another backend"
    if call.dtype not in ("bfloat16", "float16"):
        return f"does not compute in {call.dtype}: set config.model.compute_dtype to bfloat16"
    if call.head_size % 8 or call.head_size > 128:
        return (
            f"needs a head width (config.model.hidden_size / num_attention_heads) that is a "
            f"multiple of 8 up to 128, not {call.head_size}: change one of them"
        )
    if call.rows != "padded":
        return (
            "takes several documents a row only with a dense mask (config.stream.objective "
            "packed): choose pallas"
        )
    if call.window:
        return f"has no windows to both sides (config.model.local_attention {call.window}): use 0"
    return _without_dropout(call)


def pallas_obstacle(call: Call) -> str:
    """Our own flash attention in Pallas, compiled by Triton."""
    if call.platform not in ("gpu", "cpu"):
        return f"needs an NVIDIA GPU, and this is a {call.platform}: choose another backend"
    if call.dtype not in ("bfloat16", "float16") and call.platform == "gpu":
        return f"does not compute in {call.dtype}: set config.model.compute_dtype to bfloat16"
    if call.head_size not in (16, 32, 64, 128):
        return (
            f"needs a head width (config.model.hidden_size / num_attention_heads) of 16, 32, 64 "
            f"or 128, not {call.head_size}: change one of them"
        )
    if call.length % 64:
        return f"needs rows of a multiple of 64 tokens, not {call.length} (sequence_length)"
    try:
        import jax.experimental.pallas.triton  # noqa: F401
    except ImportError:
        return "needs Pallas for Triton, which this version of jax no longer has: choose xla"
    return ""


def splash_obstacle(call: Call) -> str:
    """JAX's splash attention in Pallas for TPUs."""
    if call.platform not in ("tpu", "cpu"):
        return f"needs a TPU, and this is a {call.platform}: choose another backend"
    if call.length % 128:
        return f"needs rows of a multiple of 128 tokens, not {call.length} (sequence_length)"
    return _without_dropout(call)


BACKENDS = {
    "xla": xla_obstacle,
    "cudnn": cudnn_obstacle,
    "pallas": pallas_obstacle,
    "splash": splash_obstacle,
}
PREFERRED = {
    "cpu": ("xla",),
    "gpu": ("cudnn", "pallas", "xla"),
    "rocm": ("xla",),
    "tpu": ("splash", "xla"),
}


def choose(call: Call) -> str:
    """The backend that `auto` selects."""
    return next(name for name in PREFERRED[call.platform] if not BACKENDS[name](call))


def resolve(backend: str, call: Call) -> str:
    """The backend to run.

    Args:
      backend: a key of BACKENDS, or `auto`.
      call: to compute.

    Raises:
      UserError: the named backend cannot compute it.
    """
    if backend == "auto":
        return choose(call)
    if obstacle := BACKENDS[backend](call):
        raise UserError(f"config.model.attention_backend={backend} {obstacle}")
    return backend


def explain(chosen: str, call: Call, rows: int, heads: int) -> str:
    """One line: the backend, why the preferred ones cannot be used, and what that costs.

    Args:
      chosen: the backend.
      call: to compute.
      rows: of a device's batch.
      heads: of the model.
    """
    reach = f"windows of {call.window}" if call.window else "whole rows"
    text = f"Attention of {call.rows} rows of {call.length} tokens, {reach}: {chosen}"
    preferred = PREFERRED[call.platform]
    if chosen in preferred:
        preferred = preferred[: preferred.index(chosen)]
    text += "".join(f"; {name} {why}" for name in preferred if (why := BACKENDS[name](call)))
    if chosen == "xla" and call.platform != "cpu":
        megabytes = 4 * rows * heads * call.length**2 / 2**20
        text += f". Its scores take up to {megabytes:,.0f} MB a layer (B x N x L x L, float32)"
    if chosen != "xla" and call.platform == "cpu":
        text += ". It is interpreted on a CPU, which is slow and for tests: choose auto or xla"
    return text
