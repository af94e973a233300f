"""The transformer encoder (https://arxiv.org/abs/1810.04805; https://arxiv.org/abs/2412.13663).

Axes: B batch, L length, N heads, H head width, D model width, F feed-forward width. The
benchmark's profile reports the time of each named scope (`performance.profiling.PARTS`); an
operation counts for the innermost scope around it.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from bert_jax.model.attention import Angles, attend, rotary_angles, rotate
from bert_jax.model.config import ModelConfig
from bert_jax.model.dropout import dropout, split_key
from bert_jax.model.embedding import lookup_few
from bert_jax.model.norms import make_norm
from bert_jax.model.placement import ROWS, place
from bert_jax.model.products import Linear
from bert_jax.model.stack import apply_layers


def truncated_normal(stddev: float) -> nnx.Initializer:
    """BERT's initialiser: normal, cut at two standard deviations, not rescaled after the cut."""

    def draw(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding
        return stddev * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)

    return draw


def linear(
    config: ModelConfig,
    inputs: int | tuple[int, ...],
    outputs: int | tuple[int, ...],
    rngs: nnx.Rngs,
    stddev: float | None = None,
    dtype: DTypeLike | None = None,
) -> Linear:
    """A linear map of the last axes `inputs` to `outputs`; `dtype` None: the compute dtype."""
    return Linear(
        (inputs,) if isinstance(inputs, int) else inputs,
        (outputs,) if isinstance(outputs, int) else outputs,
        use_bias=config.use_bias,
        dtype=dtype or config.dtype,
        kernel_init=truncated_normal(stddev or config.initializer_range),
        rngs=rngs,
    )


def residual_stddev(config: ModelConfig) -> float:
    """Initial stddev of the maps that write into the residual stream.

    Pre-norm encoders scale it by 1/sqrt(2 layers), as ModernBERT does, so that the stream's
    variance does not grow with depth.
    """
    if config.norm == "pre":
        return config.initializer_range / math.sqrt(2 * config.num_hidden_layers)
    return config.initializer_range


class Embeddings(nnx.Module):
    """Sum of the token, position and segment embeddings that the config has; norm and dropout."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config

        def table(rows: int) -> nnx.Embed:
            init = truncated_normal(config.initializer_range)
            return nnx.Embed(rows, config.hidden_size, embedding_init=init, rngs=rngs)

        self.tokens = table(config.vocab_size)
        if config.position == "learned":
            self.positions = table(config.max_position_embeddings)
        if config.token_types:
            self.token_types = table(config.token_types)
        self.norm = make_norm(config, rngs)

    @jax.named_scope("embedding")
    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        token_type_ids: Int[Array, "B L"],
        position_ids: Int[Array, "B L"],
        dropout_key: PRNGKeyArray | None,
    ) -> Float[Array, "B L D"]:
        config = self.config
        x = self.tokens(input_ids)
        if config.token_types:
            x += lookup_few(self.token_types.embedding[...], token_type_ids)
        if config.position == "learned":
            x += self.positions(position_ids)
        if config.position == "sinusoidal":
            x += sinusoids(position_ids, config.hidden_size)
        x = self.norm(x).astype(config.dtype)
        return dropout(x, config.dropout, dropout_key)


class Attention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        heads = (config.num_attention_heads, config.head_size)
        self.config = config
        self.qkv = linear(config, config.hidden_size, (3, *heads), rngs)
        self.output = linear(config, heads, config.hidden_size, rngs, residual_stddev(config))

    @jax.named_scope("attention")
    def __call__(
        self,
        x: Float[Array, "B L D"],
        segment_ids: Int[Array, "B L"],
        angles: Angles | None,
        dropout_key: PRNGKeyArray | None,
        *,
        window: int,
    ) -> Float[Array, "B L D"]:
        """Project to heads, attend within documents and the window, project back."""
        query, key, value = jnp.unstack(self.qkv(x), axis=2)  # B L N H each
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        mixed = attend(
            query,
            key,
            value,
            segment_ids,
            window=window,
            rows=self.config.rows,
            dropout_rate=self.config.attention_dropout,
            dropout_key=dropout_key,
            backend=self.config.attention_backend,
        )
        return self.output(mixed)


class FeedForward(nnx.Module):
    """GELU, or GeGLU (https://arxiv.org/abs/2002.05202), with the exact (erf) GELU of BERT."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        width = config.intermediate_size
        inner = width if config.feed_forward == "gelu" else (2, width)
        self.input = linear(config, config.hidden_size, inner, rngs)
        self.output = linear(config, width, config.hidden_size, rngs, residual_stddev(config))

    @jax.named_scope("feed_forward")
    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        inner = self.input(x)  # B L F, or B L 2 F
        if self.config.feed_forward == "gelu":
            return self.output(gelu(inner))
        activated, gate = jnp.unstack(inner, axis=2)  # B L F each
        return self.output(gelu(activated) * gate)


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """GELU, x Phi(x) (https://arxiv.org/abs/1606.08415) by the error function, computed in float32.

    As PyTorch writes it; `jax.nn.gelu` uses the complementary error function, which takes twice as
    long on a CPU.
    """
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1.0 + jax.lax.erf(wide * math.sqrt(0.5)))).astype(x.dtype)


class Layer(nnx.Module):
    """Attention and feed-forward, each with a norm and a residual path."""

    def __init__(self, config: ModelConfig, index: int, *, rngs: nnx.Rngs):
        """Args: index counts the layers from 0."""
        self.config = config
        self.attention = Attention(config, rngs=rngs)
        # The embeddings end with a norm, so that ModernBERT's first layer has none before its
        # attention: a pre-norm encoder's layer 0 has no parameters for it.
        self.has_attention_norm = config.norm == "post" or index > 0
        if self.has_attention_norm:
            self.attention_norm = make_norm(config, rngs)
        self.feed_forward = FeedForward(config, rngs=rngs)
        self.feed_forward_norm = make_norm(config, rngs)

    @jax.named_scope("norm")
    def __call__(
        self,
        x: Float[Array, "B L D"],
        segment_ids: Int[Array, "B L"],
        angles: Angles | None,
        dropout_key: PRNGKeyArray | None,
        *,
        window: int,
    ) -> Float[Array, "B L D"]:
        """Apply attention and feed-forward with norms and residuals."""
        config = self.config
        keys = split_key(dropout_key, 3)

        def attention(x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
            mixed = self.attention(x, segment_ids, angles, keys[0], window=window)
            return dropout(mixed, config.dropout, keys[1])

        def feed_forward(x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
            return dropout(self.feed_forward(x), config.dropout, keys[2])

        # Norms compute and return float32; what enters a product or the next layer is rounded.
        if config.norm == "post":
            x = self.attention_norm(x + attention(x)).astype(config.dtype)
            return self.feed_forward_norm(x + feed_forward(x)).astype(config.dtype)
        x = x + attention(self.attention_input(x))
        return x + feed_forward(self.feed_forward_norm(x).astype(config.dtype))

    def attention_input(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """What is projected to queries, keys and values, of the layer's input."""
        is_normed = self.config.norm == "pre" and self.has_attention_norm
        return (self.attention_norm(x) if is_normed else x).astype(self.config.dtype)

    def projections(self, x: Float[Array, "B L D"]) -> Float[Array, "B L 3 N H"]:
        """Queries, keys and values, before they are rotated, of the layer's input."""
        return self.attention.qkv(self.attention_input(x))


class LayerInputs(NamedTuple):
    """What every layer takes besides hidden states: the rotary angles by window, its dropout key.

    The last key is that of the embeddings.
    """

    segment_ids: Int[Array, "B L"]
    angles: dict[int, Angles | None]
    keys: list[PRNGKeyArray | None]


class Encoder(nnx.Module):
    """Embeddings and the stack of layers."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.embeddings = Embeddings(config, rngs=rngs)
        self.layers = nnx.List(
            [Layer(config, index, rngs=rngs) for index in range(config.num_hidden_layers)]
        )
        if config.norm == "pre":
            self.final_norm = make_norm(config, rngs)

    def __call__(
        self,
        input_ids: Int[Array, "B L"],
        token_type_ids: Int[Array, "B L"],
        position_ids: Int[Array, "B L"],
        segment_ids: Int[Array, "B L"],
        dropout_key: PRNGKeyArray | None = None,
    ) -> Float[Array, "B L D"]:
        """Hidden states of a batch; those at padding have no meaning."""
        x, inputs = self.begin(input_ids, token_type_ids, position_ids, segment_ids, dropout_key)
        return self.finish(self.through(range(len(self.layers)), x, inputs))

    def begin(
        self,
        input_ids: Int[Array, "B L"],
        token_type_ids: Int[Array, "B L"],
        position_ids: Int[Array, "B L"],
        segment_ids: Int[Array, "B L"],
        dropout_key: PRNGKeyArray | None,
    ) -> tuple[Float[Array, "B L D"], LayerInputs]:
        """The first layer's input, and what all layers take besides."""
        config = self.config
        keys = split_key(dropout_key, config.num_hidden_layers + 1)
        windows = {config.window(index) for index in range(config.num_hidden_layers)}
        with jax.named_scope("attention"):
            angles = {window: self.angles(position_ids, window) for window in windows}
        x = self.embeddings(input_ids, token_type_ids, position_ids, keys[-1])
        return place(x, ROWS), LayerInputs(segment_ids, angles, keys)

    def through(
        self, layers: range, x: Float[Array, "B L D"], inputs: LayerInputs
    ) -> Float[Array, "B L D"]:
        """The output of the last of these layers, from the input of the first."""

        def apply(layer: Layer, x: Array, window: int, key: PRNGKeyArray | None) -> Array:
            return layer(x, inputs.segment_ids, inputs.angles[window], key, window=window)

        return apply_layers(self.layers, x, inputs.keys, apply, self.config, layers)

    def finish(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """The hidden states of the last layer's output."""
        if self.config.norm == "post":
            return x
        with jax.named_scope("norm"):
            return self.final_norm(x).astype(self.config.dtype)

    def angles(self, position_ids: Int[Array, "B L"], window: int) -> Angles | None:
        """The rotary angles of the layers with this window; None where positions are not rotary."""
        if self.config.position != "rotary":
            return None
        theta = self.config.local_rope_theta if window else self.config.rope_theta
        return rotary_angles(position_ids, self.config.head_size, theta)


def sinusoids(position_ids: Int[Array, "B L"], width: int) -> Float[Array, "B L D"]:
    """Fixed positions: sines, then cosines (https://arxiv.org/abs/1706.03762, section 3.5)."""
    cos, sin = rotary_angles(position_ids, width, 10_000.0)  # B L 1 D/2
    return jnp.concatenate([sin, cos], axis=-1)[:, :, 0]
