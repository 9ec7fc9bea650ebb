"""The losses of autoencoders of images and of sounds."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import check_choice
from mmjax.objectives import presence
from mmjax.types import (
  Array,
  AxisNames,
  Batch,
  Items,
  Metrics,
  Outputs,
  Positive,
)

DISTANCES = ('absolute', 'squared')


@dataclasses.dataclass(frozen=True)
class Autoencoding:
  """Distance of arrays from their reconstructions, and the codebook's loss.

  The mean over an image's values, or a sound's samples, and then over examples.
  The model needs `reconstruct`; vectors that it moves beside gradients are
  `moves`.

  With `adversarial`, the model's `discriminate` learns to separate images from
  reconstructions, by the hinge loss (1 - D(x))+ / 2 + (1 + D(x'))+ / 2, and the
  autoencoder also minimises -`adversarial` D(x'): VQGAN (Esser et al. 2021,
  eq. 6 and 7, with the losses of their code). Neither term gives the other's
  parameters a gradient. The weight is fixed; theirs follows a ratio of
  gradients.

  Attributes:
    feature: name of the image, [B, H, W, C], or of the sound, [B, N].
    distance: 'absolute' (VQGAN's) or 'squared'.
    adversarial: weight of the adversarial loss; 0 for none.
    adversarial_start: number of steps without it.
  """

  compared_outputs: ClassVar[tuple[str, ...]] = ()
  scheduled: ClassVar[bool] = True

  feature: str = 'image'
  distance: str = 'absolute'
  adversarial: float = 0.0
  adversarial_start: int = 0

  def __post_init__(self):
    check_choice(self.distance, DISTANCES, 'distance')

  def count(self, batch: Batch) -> Array:
    """Number of examples that have the image."""
    mask = presence.presence_mask(batch, self.feature)
    return mask.sum(dtype=jnp.float32)

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Any],
    rng: Array,
    step: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss; metrics are `error` and `codebook`, the two parts of it.

    With `adversarial`, also `discriminator`, its loss, and `real_logits` and
    `fake_logits`, the means of what it gives images and reconstructions.
    """
    del outputs, axis_name
    return self._measure(batch, apply, rng, step, self._compare)

  def _compare(
    self, values: Array, target: Array
  ) -> dict[str, tuple[Any, Array]]:
    """Further parts of the loss: name -> (weight, losses [B])."""
    del values, target
    return {}

  def _measure(
    self,
    batch: Batch,
    apply: Callable[..., Any],
    rng: Array,
    step: Array,
    compare: Callable[[Array, Array], dict[str, tuple[Any, Array]]],
  ) -> tuple[Array, Metrics]:
    """The loss with further parts: name -> (weight, losses [B])."""
    mask = presence.presence_mask(batch, self.feature)
    own = batch.get(f'{self.feature}_mask', mask)  # Of a sound, of its samples.
    target = ops.zero_masked(batch[self.feature], own).astype(jnp.float32)
    target = ops.zero_masked(target, mask)
    batch = {**batch, self.feature: target}
    found = apply(batch, rng, train=True, method='reconstruct')
    values = ops.zero_masked(found.values, mask)
    gaps = values - target
    gaps = jnp.abs(gaps) if self.distance == 'absolute' else jnp.square(gaps)
    parts = {
      'error': (1.0, gaps.mean(axis=tuple(range(1, gaps.ndim)))),
      'codebook': (1.0, found.codes.loss),
      **compare(values, target),
    }
    if self.adversarial:
      parts |= self._discriminate(values, target, apply, step)
    losses = sum(weight * loss for weight, loss in parts.values())
    metrics = {k: ops.masked_mean(x, mask) for k, (_, x) in parts.items()}
    metrics['items'] = Items(losses, mask)
    if found.codes.moves:
      metrics['moves'] = found.codes.moves
    return ops.masked_mean(losses, mask), metrics

  def _discriminate(
    self,
    images: Array,
    target: Array,
    apply: Callable[..., Any],
    step: Array,
  ) -> dict[str, tuple[Array, Array]]:
    """The adversarial parts of the loss: name -> (weight, losses [B]).

    That of the autoencoder is -`adversarial` times the logits.
    """

    def judge(x: Array, *, frozen: bool) -> Array:
      return apply(x, frozen=frozen, method='discriminate')  # [B, h, w]

    real = judge(target, frozen=False)
    fake = judge(jax.lax.stop_gradient(images), frozen=False)
    fooled = judge(images, frozen=True)
    hinge = (jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)) / 2
    started = (step >= self.adversarial_start).astype(jnp.float32)
    mean = lambda logits: logits.mean(axis=(1, 2))
    return {
      'discriminator': (started, mean(hinge)),
      'fake_logits': (-started * self.adversarial, mean(fooled)),
      'real_logits': (jnp.zeros(()), mean(real)),
    }


@dataclasses.dataclass(frozen=True)
class PerceptualAutoencoding(Autoencoding):
  """`Autoencoding`, and the distance in a frozen model's space.

  1 - the cosine of the embeddings of an image and of its reconstruction, whose
  gradient goes through the frozen model to the reconstruction.

  Attributes:
    output_key: name of the frozen model's output, vectors [B, E].
    perceptual: weight of the distance.
  """

  teacher: ClassVar[str] = 'frozen'

  output_key: str = 'perceptual_output'
  perceptual: Positive = 1.0

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Any],
    rng: Array,
    apply_teacher: Callable[[Batch], Outputs],
    step: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss; a further metric is `perceptual`."""
    del outputs, axis_name

    def embed(images: Array) -> Array:
      out = apply_teacher({**batch, self.feature: images})[self.output_key]
      return ops.unit_norm(out.astype(jnp.float32))

    def compare(images, target):
      cosines = (embed(images) * embed(target)).sum(axis=-1)
      return {'perceptual': (self.perceptual, 1 - cosines)}

    return self._measure(batch, apply, rng, step, compare)


@dataclasses.dataclass(frozen=True)
class SoundAutoencoding(Autoencoding):
  """`Autoencoding` of sounds, and the distance of their spectra.

  The spectra are those of `mmjax.ops.spectral_distance`, in windows of several
  lengths, as in EnCodec (Défossez et al. 2022, section 3.4).

  Attributes:
    spectral: weight of the spectra's distance, a further metric.
  """

  feature: str = 'sound'
  spectral: Positive = 1.0

  def _compare(
    self, values: Array, target: Array
  ) -> dict[str, tuple[Any, Array]]:
    return {'spectral': (self.spectral, ops.spectral_distance(values, target))}
