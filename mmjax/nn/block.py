"""The one transformer block that every transformer here is a setting of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.errors import ConfigError, check_choice
from mmjax.nn import attention, mlp, modulation, norm
from mmjax.nn import cache as cache_lib
from mmjax.nn import visible as visible_lib
from mmjax.parallel import rules
from mmjax.types import Array, DropRate, Positive, Size

_NORM_POSITIONS = ('pre', 'post', 'sandwich')


class Block(nn.Module):
  """Self-attention, optional cross-attention and an MLP, each on a residual.

  Settings that give published blocks (all others at their defaults):

    ViT, GPT-2    the defaults; GPT-2 with activation='gelu_tanh'
    CLIP          activation='quick_gelu'
    BERT          norm_position='post', norm_epsilon=1e-12
    SigLIP        activation='gelu_tanh'
    Whisper       attention_bias=('query', 'value', 'out')
    Llama         norm='rmsnorm', activation='silu', gated=True, rope_theta=1e4,
                  attention_bias=False, mlp_bias=False
    Qwen2         Llama with attention_bias=('query', 'key', 'value')
    Qwen3         Llama with qk_norm='rmsnorm'
    Gemma         Llama with norm='offset_rmsnorm', activation='gelu_tanh'
    Gemma 2       Gemma with norm_position='sandwich', attention_softcap=50.0
    Gemma 3       Gemma with norm_position='sandwich',
                  qk_norm='offset_rmsnorm'
    T5            norm='rmsnorm', activation='relu' (1.1: 'gelu_tanh', gated),
                  attention_scale=1.0, attention_bias=False, mlp_bias=False
    OPT           activation='relu'
    MAB           self_attention=False, cross_attention=True,
                  norm_position='post' (Lee et al. 2019, Set Transformer)
    DiT           modulated=True, activation='gelu_tanh'
    PixArt        DiT with cross_attention=True, cross_attention_norm=False,
                  shared_modulation=True

  Attributes:
    width: number of features D.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLP.
    num_kv_heads: G, dividing H; None means H.
    head_dim: K; None means width / num_heads.
    self_attention: whether tokens attend to each other.
    cross_attention: whether they also attend to a context.
    context_optional: whether it skips cross-attention where it gets neither a
      context nor a cache of one (BLIP), instead of refusing.
    cross_attention_norm: whether the input of cross-attention is normalised.
    norm: 'layernorm', 'rmsnorm' or 'offset_rmsnorm'.
    norm_position: 'pre' (Xiong et al. 2020), 'post' (Vaswani et al. 2017) or
      'sandwich', before each branch and on what it adds (Ding et al. 2021,
      section 2.4).
    norm_epsilon: number added to the variance.
    mlp_norm_epsilon: epsilon of the MLP's norm, where it differs.
    activation: a key of `mlp.ACTIVATIONS`.
    gated: whether the MLP is gated.
    attention_bias: which projections of attention have a bias: True for all,
      False for none, or names out of `attention.PROJECTIONS`.
    mlp_bias: whether the MLP has biases.
    attention_scale: factor on the dot products (T5: 1); None for K**-0.5.
    attention_softcap: limit of the dot products, as of `Attention.softcap`.
    qk_norm: norm of queries and keys, as `norm`; None for none.
    rope_theta: base of the rotary positions of self-attention; None for none.
    rope: further arguments of `ops.rotary`.
    local_rope: settings of local layers, as in `Attention`; None for the same.
    modulated: whether a condition shifts and scales the input of
      self-attention and the MLP, and scales what they add, at first by 0
      (adaLN-zero, Peebles and Xie 2023, section 3.2). Their norms then have no
      parameters.
    shared_modulation: whether the condition is [B, 6 D], these shifts, scales
      and gates themselves, to which the block only adds a table (adaLN-single,
      Chen et al. 2024, PixArt-alpha, section 2.3); with `modulated`.
    layer_scale: initial value of a learned scale on each branch (Touvron et al.
      2021, CaiT, equation 4); None for none.
    dropout: rate on the output of each branch and inside the MLP.
    attention_dropout: rate on the values that attention has mixed.
    dtype: dtype of the computation.
  """

  width: Size
  num_heads: Size
  mlp_dim: Size
  num_kv_heads: Size | None = None
  head_dim: Size | None = None
  self_attention: bool = True
  cross_attention: bool = False
  context_optional: bool = False
  cross_attention_norm: bool = True
  norm: str = 'layernorm'
  norm_position: str = 'pre'
  norm_epsilon: Positive = 1e-6
  mlp_norm_epsilon: Positive | None = None
  activation: str = 'gelu'
  gated: bool = False
  attention_bias: bool | Sequence[str] = True
  mlp_bias: bool = True
  attention_scale: float | None = None
  attention_softcap: Positive | None = None
  qk_norm: str | None = None
  rope_theta: Positive | None = None
  rope: Mapping[str, Any] | None = None
  local_rope: Mapping[str, Any] | None = None
  modulated: bool = False
  shared_modulation: bool = False
  layer_scale: float | None = None
  dropout: DropRate = 0.0
  attention_dropout: DropRate = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Array,
    context: visible_lib.Context | None = None,
    visible: visible_lib.Visible = visible_lib.EVERYTHING,
    decoding: cache_lib.Decoding | None = None,
    *,
    condition: Array | None = None,
    drop_path: Array | float = 0.0,
    train: bool,
  ) -> tuple[Array, cache_lib.BlockCache | None]:
    """Transforms T tokens.

    Where 'intermediates' are collected, they hold `input`, `output` and each
    branch's `attention_output`, `cross_attention_output` and `mlp_output`, all
    [B, T, D], before layer scale and dropout.

    Args:
      x: [B, T, D].
      context: S tokens of width E, for cross-attention.
      visible: which tokens each token may attend to in self-attention: S = T
        of them, or all S slots of a cache.
      decoding: a `BlockCache` and where in it new tokens go; None outside
        decoding.
      condition: [B, C], if `modulated`; [B, 6 D] with `shared_modulation`.
      drop_path: probability that an example skips a branch in training
        (stochastic depth, Huang et al. 2016).
      train: whether dropout and stochastic depth are on.

    Returns:
      The tokens [B, T, D] and the new cache, None without `decoding`.

    Raises:
      ConfigError: for an unknown `norm_position`, a context without
        `cross_attention`, neither kind of attention, or a condition without
        `modulated` or the reverse.
    """
    self._check(context, condition)
    x = x.astype(self.dtype)
    self.sow('intermediates', 'input', x)

    def self_attention(y):
      return self._make_attention('attention')(
        y, None, visible, _select(decoding, 'self_attention'), train=train
      )

    def cross_attention(y):
      values, mask = None, None
      if context is not None:
        values, mask = context.values, context.mask
      return self._make_attention('cross_attention', cross=True)(
        y,
        values,
        visible_lib.Visible(None if mask is None else mask[:, None]),
        _select(decoding, 'cross_attention'),
        train=train,
      )

    own = crossed = None
    if self.self_attention:
      x, own = self._add_branch(
        'attention', x, self_attention, drop_path, train, condition
      )
    has_context = context is not None or decoding is not None
    if self.cross_attention and (has_context or not self.context_optional):
      x, crossed = self._add_branch(
        'cross_attention', x, cross_attention, drop_path, train
      )
    x = self._add_mlp(x, drop_path, train, condition)
    self.sow('intermediates', 'output', x)
    return x, None if decoding is None else cache_lib.BlockCache(own, crossed)

  def _check(
    self, context: visible_lib.Context | None, condition: Array | None
  ) -> None:
    check_choice(self.norm_position, _NORM_POSITIONS, 'norm_position')
    if context is not None and not self.cross_attention:
      raise ConfigError(
        'a block got a context, but its cross_attention is False, so it would '
        'ignore it; set cross_attention=True or pass no context'
      )
    if self.modulated and condition is None:
      raise ConfigError(
        'a block with modulated=True needs a condition; pass one, or set '
        'modulated=False'
      )
    if not self.modulated and condition is not None:
      raise ConfigError(
        'a block got a condition, but its modulated is False, so it would '
        'ignore it; set modulated=True or pass no condition'
      )
    if self.shared_modulation and not self.modulated:
      raise ConfigError(
        'shared_modulation=True is a kind of modulation; set modulated=True too'
      )
    if self.modulated and self.norm_position != 'pre':
      raise ConfigError(
        "modulated=True modulates a branch's input; use norm_position='pre'"
      )
    if not self.self_attention and not self.cross_attention:
      raise ConfigError(
        'self_attention=False leaves a block without attention; set '
        'cross_attention=True'
      )

  def _make_attention(
    self, name: str, cross: bool = False
  ) -> attention.Attention:
    return attention.Attention(
      self.width,
      self.num_heads,
      num_kv_heads=self.num_kv_heads,
      head_dim=self.head_dim,
      cross=cross,
      bias=self.attention_bias,
      qk_norm=self.qk_norm,
      rope_theta=None if cross else self.rope_theta,
      rope=self.rope,
      local_rope=None if cross else self.local_rope,
      norm_epsilon=self.norm_epsilon,
      scale=self.attention_scale,
      softcap=self.attention_softcap,
      dropout=self.attention_dropout,
      dtype=self.dtype,
      name=name,
    )

  def _add_mlp(
    self,
    x: Array,
    drop_path: Array | float,
    train: bool,
    condition: Array | None,
  ) -> Array:
    def feed_forward(y):
      return mlp.Mlp(
        self.width,
        self.mlp_dim,
        activation=self.activation,
        gated=self.gated,
        use_bias=self.mlp_bias,
        dropout=self.dropout,
        dtype=self.dtype,
        name='mlp',
      )(y, train=train), None

    return self._add_branch(
      'mlp', x, feed_forward, drop_path, train, condition
    )[0]

  def _add_branch(self, name, x, branch, drop_path, train, condition=None):
    """Adds a branch to x [B, T, D], with its norm, scale and dropout."""
    normalise = self._make_norm(name, affine=condition is None)
    post = self.norm_position == 'post'
    y, gate = x if post else normalise(x), None
    if condition is not None:
      shift, scale, gate = self._modulate(name, condition)
      y = y * (1 + scale) + shift
    y, extra = branch(y)
    if self.norm_position == 'sandwich':
      y = self._make_norm(name, 'last_norm')(y)
    self.sow('intermediates', f'{name}_output', y)
    if self.layer_scale is not None:
      scale = self.param(
        f'{name}_scale',
        nn.with_logical_partitioning(
          nn.initializers.constant(self.layer_scale), ('norm',)
        ),
        (self.width,),
        jnp.float32,
      )
      y = y * scale[None, None].astype(self.dtype)
    y = y if gate is None else y * gate
    y = nn.Dropout(self.dropout)(y, deterministic=not train)
    y = self._skip_branch(y, drop_path, train)
    x = rules.constrain(x + y, 'batch', 'length', 'embed')
    return (normalise(x) if post else x), extra

  def _make_norm(
    self, name: str, which: str = 'norm', affine: bool = True
  ) -> Callable[[Array], Array]:
    if name == 'cross_attention' and not self.cross_attention_norm:
      return lambda x: x
    epsilon = self.norm_epsilon
    if name == 'mlp' and self.mlp_norm_epsilon is not None:
      epsilon = self.mlp_norm_epsilon
    return norm.make_norm(
      self.norm, epsilon, self.dtype, name=f'{name}_{which}', affine=affine
    )

  def _modulate(self, name: str, condition: Array) -> list[Array]:
    """Shift, scale and gate [B, 1, D] of a branch."""
    cls = modulation.Modulation
    if self.shared_modulation:
      cls = modulation.SharedModulation
      condition = jnp.split(condition, 2, axis=-1)[name == 'mlp']  # [B, 3 D]
    return cls(self.width, 3, self.dtype, name=f'{name}_modulation')(condition)

  def _skip_branch(self, y: Array, rate: Array | float, train: bool) -> Array:
    if not train or (isinstance(rate, (int, float)) and rate == 0):
      return y
    keep = 1.0 - jnp.asarray(rate, jnp.float32)
    kept = jax.random.bernoulli(
      self.make_rng('dropout'), keep, (y.shape[0], 1, 1)
    )  # [B, 1, 1]
    return jnp.where(kept, y / keep.astype(y.dtype), 0)


def _select(
  decoding: cache_lib.Decoding | None, name: str
) -> cache_lib.Decoding | None:
  """Picks one layer's cache; None if there is none."""
  if decoding is None or getattr(decoding.cache, name) is None:
    return None
  return decoding.replace(cache=getattr(decoding.cache, name))
