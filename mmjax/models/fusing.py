"""Where a model fuses its encoders' tokens, and what stands for absent ones."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.encoders import recurrent
from mmjax.errors import ConfigError
from mmjax.types import Array, DropRate, TokenVectors

INPUT, OUTPUT = 'input', 'output'
# Name of what was fused at an earlier depth, among the modalities of a later
# one.
FUSED = 'fused'
# A depth at which encoders are fused: a number of blocks, or `OUTPUT`.
Depth = int | str
ByDepth = Mapping[Depth, Mapping[str, TokenVectors]]
# Mixed tokens, or by encoder those that a decision-level fusion decides on.
Fused = TokenVectors | Mapping[str, TokenVectors]


def decides(fusion: nn.Module | None) -> bool:
  """Whether a fusion gets each modality's outputs, not its tokens."""
  return getattr(fusion, 'level', '') == 'decision'


def list_heads(model: nn.Module) -> dict[str, int]:
  """Number of outputs of each linear layer on summaries, by name.

  TARGET is on what was fused, and TARGET_ENCODER on one encoder's tokens.

  Args:
    model: model with the fields `encoders`, `fusion`, `output_sizes` and
      `unimodal_outputs`.
  """
  alone = model.unimodal_outputs or decides(model.fusion)
  names = [] if decides(model.fusion) else ['']
  names += [f'_{name}' for name in model.encoders] if alone else []
  return {
    f'{target}{name}': number
    for target, number in (model.output_sizes or {}).items()
    for name in names
  }


def check(model: nn.Module) -> tuple[Depth, ...]:
  """The depths at which a model fuses.

  Args:
    model: model with the fields `encoders`, `fusion`, `fuse_at`,
      `modality_dropout`, `absent_tokens`, `decoder` and `masked_heads`.

  Raises:
    ConfigError: for settings that don't go together.
  """
  depths = parse_depths(model.fuse_at)
  changed = {
    'fuse_at': depths != (OUTPUT,),
    'modality_dropout': model.modality_dropout > 0,
    'absent_tokens': model.absent_tokens,
  }
  for field, differs in changed.items():
    if differs and model.fusion is None:
      raise ConfigError(
        f'model.{field}={getattr(model, field)!r} is of no use without '
        'model.fusion; add one, or remove it'
      )
  level = decides(model.fusion)
  what = f'model.fusion, {type(model.fusion).__name__}, decides on outputs, '
  if level and depths != (OUTPUT,):
    raise ConfigError(
      f"{what}so model.fuse_at={model.fuse_at!r} is not legal; use '{OUTPUT}'"
    )
  if level and (model.decoder is not None or model.masked_heads):
    raise ConfigError(
      f'{what}and has no tokens to write or to fill from; use a fusion of '
      'features or of tokens'
    )
  if model.masked_heads and depths != (OUTPUT,):
    raise ConfigError(
      f'tasks.masked predicts from outputs, not from model.fuse_at='
      f"{model.fuse_at!r}; use '{OUTPUT}'"
    )
  if len(depths) > 1 and FUSED in model.encoders:
    raise ConfigError(
      f'model.encoders.{FUSED} has the name of what is fused at an earlier '
      'depth of model.fuse_at; rename it'
    )
  return depths


def parse_depths(fuse_at: Any) -> tuple[Depth, ...]:
  """The depths of the setting `fuse_at`, in their order.

  Args:
    fuse_at: 'input' (before the first block), a number of blocks, 'output', or
      several of them.

  Returns:
    Numbers of blocks, 'output' last.

  Raises:
    ConfigError: for another value, no depth, or one named twice.

  >>> parse_depths(('output', 2, 'input'))
  (0, 2, 'output')
  """
  several = isinstance(fuse_at, Sequence) and not isinstance(fuse_at, str)
  depths = [0 if d == INPUT else d for d in (fuse_at if several else [fuse_at])]
  for depth in depths:
    is_number = isinstance(depth, int) and not isinstance(depth, bool)
    if not (depth == OUTPUT or (is_number and depth >= 0)):
      raise ConfigError(
        f'model.fuse_at={fuse_at!r} is not legal; use {INPUT!r}, {OUTPUT!r}, a '
        'number of blocks, or several of these'
      )
  if not depths or len(set(depths)) < len(depths):
    raise ConfigError(
      f'model.fuse_at={fuse_at!r} must name at least one depth, and none twice'
    )
  numbers = sorted(d for d in depths if d != OUTPUT)
  return (*numbers, *([OUTPUT] if OUTPUT in depths else []))


def encode_at(
  encoder: nn.Module,
  name: str,
  depths: Sequence[Depth],
  inputs: Any,
  mask: Any,
  *,
  train: bool,
) -> dict[Depth, TokenVectors]:
  """An encoder's tokens after some of its blocks, and its result.

  Encoders need no argument for this: an interceptor of Linen keeps what their
  blocks return.

  Args:
    encoder: a bound encoder with `blocks`: one `mmjax.nn.Stack`, or a sequence
      of modules from one feature map or sequence to the next; or a recurrent
      one, whose layers count as blocks.
    name: the encoder's name, for messages.
    depths: numbers of blocks; 0 for what enters the first. 'output' is the
      result itself.
    inputs: what the encoder reads.
    mask: its mask.
    train: whether dropout is on.

  Returns:
    TokenVectors by depth; the result is always there, as 'output'. Those of a
    hidden depth are summarised by their mean.

  Raises:
    ConfigError: if the encoder has no such depth.
  """
  wanted = [d for d in depths if d != OUTPUT]
  if not wanted:
    return {OUTPUT: encoder(inputs, mask, train=train)}
  hidden: dict[int, Array] = {}
  # `FromSamples` wraps the encoder that has the blocks.
  owner = getattr(encoder, 'encoder', encoder)
  if getattr(owner, 'merged', 1) > 1 or getattr(owner, 'chunk', 0):
    raise ConfigError(
      f'model.fuse_at={wanted[0]}: model.encoders.{name} merges the tokens of '
      f"its last block, or has chunks; use model.fuse_at='{OUTPUT}', or its "
      'merged=1 and chunk=0'
    )
  with nn.intercept_methods(_make_keeper(hidden, owner, name, wanted)):
    tokens = encoder(inputs, mask, train=train)
  if not hidden:
    raise ConfigError(
      f'model.fuse_at={wanted[0]}: model.encoders.{name}, '
      f'{type(owner).__name__}, has no blocks between which it could be fused; '
      f"use model.fuse_at='{OUTPUT}'"
    )
  _check_depth(name, max(wanted), max(hidden))
  found = {d: _make_tokens(hidden[d], tokens.mask) for d in wanted}
  return {**found, OUTPUT: tokens}


def _make_keeper(
  hidden: dict[int, Array], owner: nn.Module, name: str, wanted: Sequence[int]
) -> Callable[..., Any]:
  """An interceptor that keeps what an encoder's blocks return.

  Args:
    hidden: becomes tokens by number of blocks.
    owner: the bound encoder.
    name: its name, for messages.
    wanted: the numbers of blocks.
  """

  def keep(call, args, kwargs, context):
    module, parent = context.module, context.module.parent
    if context.method_name == 'stack' and module.path == owner.path:
      if isinstance(module, recurrent.RecurrentLayers):
        _check_depth(name, max(wanted), module.depth)
        hidden.update(dict.fromkeys(wanted))
        kwargs = {**kwargs, 'hidden': hidden}
      return call(*args, **kwargs)
    is_block = context.method_name == '__call__' and isinstance(
      parent, nn.Module
    )
    if not is_block or parent.path != owner.path:
      return call(*args, **kwargs)
    blocks = getattr(parent, 'blocks', ())
    if module is blocks and isinstance(module, mnn.Stack):
      _check_depth(name, max(wanted), module.depth)
      hidden.update(dict.fromkeys(wanted))
      return call(*args, **kwargs, hidden=hidden)
    out = call(*args, **kwargs)
    for i, block in enumerate(blocks if isinstance(blocks, Sequence) else ()):
      if module is block:
        hidden.update({0: args[0]} if i == 0 else {})
        hidden[i + 1] = out
    return out

  return keep


def _check_depth(name: str, depth: int, number: int) -> None:
  if depth > number:
    raise ConfigError(
      f'model.fuse_at={depth} is deeper than model.encoders.{name}, which has '
      f"{number} blocks; use at most {number}, or '{OUTPUT}'"
    )


def _make_tokens(x: Array, mask: Array) -> TokenVectors:
  """Tokens [B, N, D] of hidden values, by the mask [B, M] of the result."""
  if x.ndim == 4:  # A feature map [B, r, c, D].
    x = einops.rearrange(x, 'b r c d -> b (r c) d')
    mask = jnp.broadcast_to(mask.any(axis=1, keepdims=True), x.shape[:2])
  else:  # [B, N, D], or [B * C, N, D] of C series.
    x = x.reshape(*mask.shape, x.shape[-1])
  return TokenVectors(ops.zero_masked(x, mask), mask, ops.mean_tokens(x, mask))


class Absence(nn.Module):
  """Drops modalities in training, and puts learned tokens in absent places.

  Modality dropout leaves at least one modality that an example has (ModDrop,
  Neverova et al. 2016). It changes the mask alone: fusions zero the pooled
  vector of a modality whose mask is all False. With `learned`, an absent
  modality is one learned token, which the fusion then treats like any other.

  Attributes:
    rate: probability that a modality of an example is dropped in training.
    learned: whether there are learned tokens.
    dtype: dtype of the learned tokens; parameters are float32.
  """

  rate: DropRate = 0.0
  learned: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, at_depths: Sequence[Mapping[str, TokenVectors]], *, train: bool
  ) -> list[dict[str, TokenVectors]]:
    """Changes tokens of the same examples, alike at all depths.

    Args:
      at_depths: tokens by modality, for each depth.
      train: whether modalities are dropped.
    """
    names = sorted(at_depths[0])
    kept = self._sample_kept(at_depths[0]) if train and self.rate else None
    out = []
    for i, tokens in enumerate(at_depths):
      changed = {}
      for j, name in enumerate(names):
        one = tokens[name]
        if kept is not None:
          one = one.replace(mask=one.mask & kept[:, j, None])
        changed[name] = self._fill(f'{name}_{i}', one) if self.learned else one
      out.append(changed)
    return out

  def _sample_kept(self, tokens: Mapping[str, TokenVectors]) -> Array:
    """Which modalities are kept, [B, m]: all where none would be left."""
    present = jnp.stack(
      [tokens[name].mask.any(axis=1) for name in sorted(tokens)], axis=1
    )
    kept = jax.random.bernoulli(
      self.make_rng('dropout'), 1 - self.rate, present.shape
    )
    return kept | ~(kept & present).any(axis=1, keepdims=True)

  def _fill(self, name: str, tokens: TokenVectors) -> TokenVectors:
    """Puts a learned vector in the first place of an absent modality."""
    vector = self.param(
      name,
      nn.with_logical_partitioning(nn.initializers.normal(0.02), ('embed',)),
      (tokens.pooled.shape[-1],),
      jnp.float32,
    ).astype(tokens.pooled.dtype)
    absent = ~tokens.mask.any(axis=1)  # [B]
    first = (jnp.arange(tokens.mask.shape[1]) == 0)[None] & absent[:, None]
    values = jnp.where(first[:, :, None], vector[None, None], tokens.values)
    pooled = jnp.where(absent[:, None], vector[None], tokens.pooled)
    return TokenVectors(values, tokens.mask | first, pooled)
