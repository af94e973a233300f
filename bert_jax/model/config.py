"""The architecture of an encoder and its heads, checked once."""

import dataclasses

import jax
import jax.numpy as jnp

from bert_jax.common.errors import UserError
from bert_jax.model.attention import BACKENDS, Call, effective_window
from bert_jax.model.compute_dtype import AUTO, fast_dtype

CHOICES = {
    "position": ("learned", "rotary", "sinusoidal"),
    "norm": ("post", "pre"),
    "feed_forward": ("gelu", "geglu"),
    "compute_dtype": ("float32", "bfloat16"),
    "attention_backend": ("auto", *BACKENDS),
    "rows": ("packed", "padded"),
    "rematerialization": ("none", "dots", "full"),  # what the backward pass recomputes
    "layers": ("unrolled", "scanned"),  # one program for all layers, or a loop over them
}
SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One encoder: the fields of `config.model`, the size of the vocabulary, and the kind of rows.

    The compute dtype `auto` becomes that of this machine's devices.

    Raises:
      UserError: an unknown choice, a size that is not positive, or sizes that do not fit together.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    position: str
    norm: str
    feed_forward: str
    use_bias: bool
    token_types: int
    next_sentence: bool
    norm_epsilon: float
    dropout: float
    attention_dropout: float
    initializer_range: float
    local_attention: int
    global_every: int
    rope_theta: float
    local_rope_theta: float
    compute_dtype: str
    attention_backend: str = "auto"
    rows: str = "packed"  # several documents a row | padded: one, then padding
    rematerialization: str = "none"
    layers: str = "unrolled"
    head: str = "blocked"
    sampled_negatives: int = 8192
    adaptive_cutoffs: tuple[int, ...] = ()
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    # The ids from the most frequent to the rarest, for heads that treat them differently; (): the
    # ids themselves are in that order.
    token_order: tuple[int, ...] = dataclasses.field(default=(), repr=False)

    def __post_init__(self):
        if self.compute_dtype == AUTO:
            object.__setattr__(self, "compute_dtype", fast_dtype(jax.local_devices()[0]))
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UserError(
                    f"config.model.{name} is {getattr(self, name)!r}: choose one of "
                    f"{', '.join(allowed)}"
                )
        for name in SIZES:
            if getattr(self, name) < 1:
                raise UserError(
                    f"config.model.{name} is {getattr(self, name)}: set it to 1 or more"
                )
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(
                    f"config.model.{name} is {getattr(self, name)}: choose a share in [0, 1)"
                )
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"config.model.hidden_size {self.hidden_size} is not a multiple of "
                f"config.model.num_attention_heads {self.num_attention_heads}: change one of them"
            )
        if self.position == "rotary" and self.head_size % 2:
            raise UserError(
                f"rotary positions need an even head width, and config.model.hidden_size / "
                f"num_attention_heads is {self.head_size}: change one of them"
            )
        if self.position == "sinusoidal" and self.hidden_size % 2:
            raise UserError(
                f"sinusoidal positions need an even config.model.hidden_size, not "
                f"{self.hidden_size}: change it"
            )
        for name in ("token_types", "local_attention"):
            if getattr(self, name) < 0:
                raise UserError(f"config.model.{name} is {getattr(self, name)}: 0 means none")
        for name in ("norm_epsilon", "initializer_range", "rope_theta", "local_rope_theta"):
            if not getattr(self, name) > 0:
                raise UserError(f"config.model.{name} is {getattr(self, name)}: set it above 0")
        if self.local_attention and self.global_every < 1:
            raise UserError(
                f"config.model.global_every is {self.global_every}: set it to 1 or more "
                "(every n-th layer stays global)"
            )
        if not 0 <= self.label_smoothing < 1 or self.z_loss < 0:
            raise UserError(
                f"config.model.label_smoothing is {self.label_smoothing} and config.model.z_loss "
                f"{self.z_loss}: choose a share in [0, 1), and 0 or more"
            )
        self._check_head()

    def _check_head(self) -> None:
        from bert_jax.model.heads import HEADS  # heads import this module

        if self.head not in HEADS:
            raise UserError(f"config.model.head is {self.head!r}: choose one of {', '.join(HEADS)}")
        if (self.label_smoothing or self.z_loss) and self.head not in ("full", "blocked"):
            raise UserError(
                f"config.model.label_smoothing and z_loss need config.model.head=blocked or full, "
                f"not {self.head}"
            )
        HEADS[self.head].check(self)

    @property
    def head_size(self) -> int:
        """Width of one attention head, H."""
        return self.hidden_size // self.num_attention_heads

    @property
    def dtype(self) -> jnp.dtype:
        """Type of the operands of matrix products."""
        return jnp.dtype(self.compute_dtype)

    def attention_calls(self, length: int, platform: str) -> set[Call]:
        """The different attention calls of the layers in training on rows of `length` tokens."""
        windows = {self.window(layer) for layer in range(self.num_hidden_layers)}
        return {
            Call(
                platform=platform,
                dtype=self.compute_dtype,
                length=length,
                head_size=self.head_size,
                window=effective_window(window, length),
                rows=self.rows,
                dropout_rate=self.attention_dropout,
            )
            for window in windows
        }

    def window(self, layer: int) -> int:
        """Width of the attention window of `layer` in tokens, both sides; 0: the whole row."""
        is_global = self.local_attention == 0 or layer % self.global_every == 0
        return 0 if is_global else self.local_attention
