"""An encoder for each of any features, and what is made of their tokens."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import encoders, ops
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.models import dual_encoder, fusing, generation, masking, table_rows
from mmjax.parallel import vocabulary
from mmjax.types import (
  Array,
  Batch,
  DropRate,
  FactoredLogits,
  Outputs,
  Positive,
  TokenVectors,
)


class Multimodal(generation.TextGenerator):
  """Encodes any set of features; embeds, classifies, regresses or writes.

  With `embed_dim`, each feature has a projection into one space, as two towers
  have in CLIP and six in ImageBind (Girdhar et al. 2023, section 3). With
  `output_sizes`, a linear layer on the fused summary predicts each target. With
  a decoder, the target text is written from the fused tokens. With
  `masked_heads`, hidden parts of features are predicted from the rest. What an
  example lacks changes nothing, by its mask.

  Attributes:
    encoders: encoder by name; a name is that of the feature that it reads,
      unless `encoder_inputs` says otherwise.
    encoder_inputs: names of the features that an encoder reads, by encoder.
      Several numbers and classes are the row of a table.
    fusion: mixes the tokens of all encoders; None for one encoder, or for
      embeddings alone. A decision-level fusion gets each encoder's own outputs
      instead.
    fuse_at: where tokens are fused: 'input' (before the first block), a number
      of blocks, 'output', or several of them. Of several, each has a fusion of
      its own, which also gets what the one before it returned, as `fused`
      (MFAS, Perez-Rua et al. 2019, section 3).
    modality_dropout: probability that the fusion doesn't get a modality of an
      example in training.
    absent_tokens: whether the fusion gets a learned token for an absent
      modality.
    unimodal_outputs: whether each target is also predicted from each encoder
      alone, by a linear layer of its own.
    embed_dim: E, width of the shared space; 0 for no embeddings.
    output_sizes: number of outputs by target, the feature that is predicted.
    decoder: a `TextDecoder` with cross-attention; None to write nothing.
    target_feature: the text feature that the decoder writes.
    masked_heads: settings of the head by feature of which parts are hidden:
      `mask_id` of a text; `width`, `depth`, `num_heads` of a patches' decoder.
    logit_scale_init: inverse temperature at the start.
    logit_scale_max: upper limit of the inverse temperature.
    logit_bias_init: the sigmoid loss's bias at the start; None for no bias.
    bos_id: the token that starts a text.
    eos_id: the token that ends it.
    pad_id: the token that fills up after the end.
    dtype: dtype of projections and outputs.
  """

  encoders: Mapping[str, nn.Module]
  encoder_inputs: Mapping[str, Sequence[str]] | None = None
  fusion: nn.Module | None = None
  fuse_at: str | int | Sequence[str | int] = fusing.OUTPUT
  modality_dropout: DropRate = 0.0
  absent_tokens: bool = False
  unimodal_outputs: bool = False
  embed_dim: int = 0
  output_sizes: Mapping[str, int] | None = None
  decoder: nn.Module | None = None
  target_feature: str = ''
  masked_heads: Mapping[str, Mapping[str, Any]] | None = None
  logit_scale_init: Positive = 1 / 0.07
  logit_scale_max: Positive = 100.0
  logit_bias_init: float | None = None
  bos_id: int = 1
  eos_id: int = 2
  pad_id: int = 0
  dtype: Any = jnp.float32

  text_kinds: ClassVar[tuple[str, ...]] = ('write',)

  def setup(self):
    if not self.encoders:
      raise ConfigError('model.encoders is empty; name one for each feature')
    fuses = bool(self.output_sizes) or self.decoder is not None
    if fuses and self.fusion is None and len(self.encoders) > 1:
      raise ConfigError(
        f'model.fusion is missing: the encoders {", ".join(self.encoders)} '
        'need one to predict from all of them'
      )
    mixes = any(
      masking.is_text(self.encoders[name]) for name in self._find_masked()
    )
    if self.fusion is not None and not (fuses or mixes):
      raise ConfigError(
        'model.fusion is of no use: no task predicts anything from the fused '
        'features; remove it, or add such a task'
      )
    self._setup_fusions()
    if self.embed_dim:
      self.projections = {
        name: dual_encoder.Projection(self.embed_dim, dtype=self.dtype)
        for name in self.encoders
      }
      self.scale = dual_encoder.Scale(
        self.logit_scale_init, self.logit_scale_max, self.logit_bias_init
      )
    self.heads = {
      head: mnn.Dense(
        number,
        kernel_init=nn.with_logical_partitioning(
          nn.initializers.lecun_normal(), ('embed', None)
        ),
        dtype=self.dtype,
      )
      for head, number in fusing.list_heads(self).items()
    }
    self.mask_heads = {
      name: masking.make_head(self.encoders[name], settings, self.dtype)
      for name, settings in self._find_masked().items()
    }

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Computes all that the model has parts for.

    Args:
      batch: arrays by feature, with masks.
      train: whether dropout is on.

    Returns:
      `NAME_embedding` [B, E], unit vectors, for each encoder, with
      `logit_scale` [] and perhaps `logit_bias` []; `TARGET_output` [B, n];
      `TARGET_logits` [B, T - 1, V] of the text that is written, in training
      not materialised. All float32.
    """
    by_depth = self._encode(batch, train=train)
    out = dict(self.scale()) if self.embed_dim else {}
    if self.embed_dim:
      for name, encoded in by_depth[fusing.OUTPUT].items():
        out[f'{name}_embedding'] = self.projections[name](encoded.pooled)
    if self.heads or self.decoder is not None:
      fused = self._fuse(by_depth, train=train)
      for target in self.output_sizes or {}:
        out[f'{target}_output'] = self._apply_heads(fused, target, train=train)
        if self.unimodal_outputs:
          out |= self._apply_unimodal(by_depth[fusing.OUTPUT], target)
      if self.decoder is not None and self.target_feature in batch:
        out[f'{self.target_feature}_logits'] = self.decoder(
          batch[self.target_feature][:, :-1],
          batch[f'{self.target_feature}_mask'][:, :-1],
          fused,
          train=train,
        )
    if self.is_initializing():
      self._init_masked(batch)
    return out

  def encode(
    self, batch: Batch, names: Sequence[str] = (), *, train: bool = False
  ) -> dict[str, TokenVectors]:
    """TokenVectors of features, by encoder; of all encoders without `names`."""
    return {
      name: self.encoders[name](*self._get_inputs(name, batch), train=train)
      for name in names or self.encoders
    }

  def fuse_outputs(
    self, tokens: Mapping[str, TokenVectors], *, train: bool = False
  ) -> TokenVectors:
    """Mixes the encoders' results, whatever `fuse_at` says."""
    if self.fusion is None:
      return next(iter(tokens.values()))
    (tokens,) = self.absence([tokens], train=train)
    return self.fusion(tokens, train=train)

  def embed(self, batch: Batch, name: str) -> Array:
    """Unit vectors [B, E] of one feature."""
    tokens = self.encode(batch, (name,))[name]
    return self.projections[name](tokens.pooled)

  def apply_head(self, batch: Batch, target: str, encoder: str = '') -> Array:
    """Outputs [B, n] of one target, from all features or one encoder alone."""
    if encoder:
      tokens = self.encode(batch, (encoder,))
      return next(iter(self._apply_unimodal(tokens, target).values()))
    fused = self._fuse(self._encode(batch))
    return self._apply_heads(fused, target)

  def encode_inputs(
    self, batch: Batch, text_kind: str
  ) -> tuple[TokenVectors, Array, Array]:
    """The fused features, and the start of a text."""
    del text_kind
    context = self._fuse(self._encode(batch))
    size = context.mask.shape[0]
    return context, *generation.read_decoder_prompt(batch, size, self.bos_id)

  def fill(
    self,
    batch: Batch,
    feature: str,
    positions: Array,
    hidden: Array,
    *,
    train: bool = False,
  ) -> Array | FactoredLogits:
    """Predicts tokens of a text, some of which are hidden.

    With a fusion, they are predicted from its tokens, and so from all features.

    Args:
      batch: arrays by feature, with masks.
      feature: name of the text, one of `masked_heads`.
      positions: which tokens to predict, int [B, K].
      hidden: bool [B, T], True for those whose ids change nothing.
      train: whether dropout is on.

    Returns:
      Logits [B, K, V] float32, in training not materialised.

    Raises:
      ConfigError: if the fusion doesn't mix the text's tokens.
    """
    name = masking.find_encoder(self.encoders, self.encoder_inputs, feature)
    words, head = self.encoders[name].words, self.mask_heads[name]
    ids = jnp.where(hidden, 0, batch[feature])
    vectors = head.embed(ids, hidden, words)  # [B, T, D]
    others = () if self.fusion is not None else (name,)
    tokens = self.encode({**batch, feature: vectors}, others, train=train)
    x = tokens[name].values  # [B, T, D]
    if self.fusion is not None:
      fused = self.fuse_outputs(tokens, train=train)
      x = masking.slice_fused(fused, self.fusion, tokens, name)
    x = jnp.take_along_axis(x, positions[:, :, None], axis=1)  # [B, K, D]
    logits = head(x, words)
    return logits if train else vocabulary.multiply(logits)

  def reconstruct(
    self,
    batch: Batch,
    feature: str,
    rng: Array,
    index: Array,
    fraction: float,
    *,
    train: bool = False,
  ) -> masking.Reconstruction:
    """Hides patches, and predicts all from the visible ones.

    Their encoder reads the visible ones alone, and no other feature. Of a sound
    that is shorter than its window, the fraction is of the patches with sound.

    Args:
      batch: arrays by feature, with masks.
      feature: name of an image or a sound, one of `masked_heads`.
      rng: key of what is hidden.
      index: indices [B] of the examples, as in `mmjax.ops.draw_by_index`.
      fraction: fraction of the patches that is hidden.
      train: whether dropout is on.

    Returns:
      All patches, predicted and true.
    """
    name = masking.find_encoder(self.encoders, self.encoder_inputs, feature)
    encoder, (inputs, mask) = self.encoders[name], self._get_inputs(name, batch)
    real = mask
    if isinstance(encoder, encoders.FromSamples):
      samples, (inputs, mask) = mask, encoder.compute(inputs, mask)
      real = mask
      if samples is not None:
        real = encoder.mask_frames(samples, inputs.shape[1])
      encoder = encoder.encoder
    target, grid = encoder.cut(ops.zero_masked(inputs, mask))  # [B, P, E]
    real = masking.find_real(encoder, inputs.shape, real)  # [B, P]
    scores = ops.draw_by_index(rng, index, target.shape[1])
    order, hidden = masking.order_patches(scores, real, fraction)
    number = masking.count_visible(target.shape[1], fraction)
    tokens = encoder(inputs, mask, visible=order[:, :number], train=train)
    predicted = self.mask_heads[name](
      tokens, order, number, grid, target.shape[2], train=train
    )
    return masking.Reconstruction(predicted, target, hidden, grid)

  def _setup_fusions(self) -> None:
    """Makes the fusions of all depths and targets but the first, `fusion`."""
    depths = fusing.check(self)
    self.later_fusions = [
      self.fusion.clone(parent=None, name=None) for _ in depths[1:]
    ]
    # One fusion can't decide on targets of different sizes.
    targets = list(self.output_sizes or {})[1:]
    self.later_decisions = {
      target: self.fusion.clone(parent=None, name=None)
      for target in (targets if fusing.decides(self.fusion) else ())
    }
    self.absence = fusing.Absence(
      self.modality_dropout, self.absent_tokens, self.dtype
    )

  def _encode(self, batch: Batch, *, train: bool = False) -> fusing.ByDepth:
    """By depth, of those in `fuse_at` and the output, then by encoder."""
    depths = fusing.parse_depths(self.fuse_at)
    found = {
      name: fusing.encode_at(
        encoder, name, depths, *self._get_inputs(name, batch), train=train
      )
      for name, encoder in self.encoders.items()
    }
    return {
      depth: {name: tokens[depth] for name, tokens in found.items()}
      for depth in dict.fromkeys((*depths, fusing.OUTPUT))
    }

  def _fuse(
    self, by_depth: fusing.ByDepth, *, train: bool = False
  ) -> fusing.Fused:
    """The tokens of all features, mixed at the depths of `fuse_at`.

    With a decision-level fusion, which mixes outputs, the tokens by encoder.
    """
    if self.fusion is None:
      return next(iter(by_depth[fusing.OUTPUT].values()))
    depths = fusing.parse_depths(self.fuse_at)
    at_depths = self.absence([by_depth[d] for d in depths], train=train)
    if fusing.decides(self.fusion):
      return at_depths[0]
    fused = self.fusion(at_depths[0], train=train)
    for fusion, tokens in zip(self.later_fusions, at_depths[1:], strict=True):
      fused = fusion({**tokens, fusing.FUSED: fused}, train=train)
    return fused

  def _apply_heads(
    self, fused: fusing.Fused, target: str, *, train: bool = False
  ) -> Array:
    """Outputs [B, n] float32 of a target."""
    if isinstance(fused, TokenVectors):
      return self.heads[target](fused.pooled).astype(jnp.float32)
    outputs = {
      name: TokenVectors.of(
        self.heads[f'{target}_{name}'](tokens.pooled),
        tokens.mask.any(axis=1, keepdims=True),
      )
      for name, tokens in fused.items()
    }
    decide = self.later_decisions.get(target, self.fusion)
    return decide(outputs, train=train).pooled

  def _apply_unimodal(
    self, tokens: Mapping[str, TokenVectors], target: str
  ) -> dict[str, Array]:
    """`TARGET_output_of_ENCODER` [B, n] float32, zeros where it is absent."""
    return {
      f'{target}_output_of_{name}': ops.zero_masked(
        self.heads[f'{target}_{name}'](one.pooled), one.mask.any(axis=1)
      ).astype(jnp.float32)
      for name, one in tokens.items()
    }

  def _find_masked(self) -> dict[str, Mapping[str, Any]]:
    """Settings of the heads by encoder."""
    find = masking.find_encoder
    return {
      find(self.encoders, self.encoder_inputs, feature): settings
      for feature, settings in (self.masked_heads or {}).items()
    }

  def _init_masked(self, batch: Batch) -> None:
    """Makes the parameters of the heads; only objectives call them."""
    for feature in self.masked_heads or {}:
      name = masking.find_encoder(self.encoders, self.encoder_inputs, feature)
      index = jnp.arange(batch[feature].shape[0])
      if masking.is_text(self.encoders[name]):
        hidden = jnp.zeros(batch[feature].shape, bool)
        self.fill(batch, feature, jnp.zeros((len(index), 1), jnp.int32), hidden)
      else:
        self.reconstruct(batch, feature, jax.random.key(0), index, 0.5)

  def _get_inputs(self, name: str, batch: Batch) -> tuple[Any, Any]:
    """What an encoder gets: an array and its mask, or a table's."""
    keys = tuple((self.encoder_inputs or {}).get(name, (name,)))
    missing = [key for key in keys if key not in batch]
    if missing:
      raise ConfigError(
        f'model.encoders.{name} reads {missing[0]!r}, which the batch lacks; '
        f'it has {", ".join(sorted(batch))}'
      )
    array, mask = encoders.get_array_and_mask(batch, keys[0])
    if len(keys) > 1 or table_rows.is_row(array, mask):
      return table_rows.make_table(keys, batch)
    return array, mask
