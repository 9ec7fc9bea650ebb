"""The task of drawing images of their embeddings, and so of texts."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from mmjax import evaluators, ops
from mmjax.data import contact_sheet
from mmjax.data.features import Feature
from mmjax.errors import ConfigError
from mmjax.evaluators import drawings, masked
from mmjax.models import predict, predict_unclip
from mmjax.tasks import base, denoise
from mmjax.tasks import draw as draw_lib
from mmjax.tasks import prior as prior_lib
from mmjax.tasks.build import build as build_tasks
from mmjax.types import Array, Batch


def vary(
  run: base.TrainedModel,
  images: Any,
  *,
  number: int = 4,
  seed: int = 0,
  guidance: float | None = None,
  steps: int | None = None,
) -> np.ndarray:
  """Draws other images of the embedding of an image (DALL-E 2, section 3.1).

  Args:
    run: the trained model.
    images: one image or several.
    number: number of variations of each n.
    seed: seed of the noise of the first; each has another.
    guidance: factor of classifier-free guidance; None for the task's.
    steps: number of steps; None for the task's.

  Returns:
    uint8 [N, n, H, W, 3].

  Raises:
    ConfigError: if a setting is not legal.
  """
  if number < 1:
    raise ConfigError(f'number={number} is not legal; use 1 or more')
  task = _choose(run, guidance, steps)
  embeddings = _embed_images(run, task, images)
  drawn = _draw(run, task, jnp.repeat(embeddings, number, axis=0), seed)
  return drawn.reshape(len(embeddings), number, *drawn.shape[1:])


def interpolate(
  run: base.TrainedModel,
  first: Any,
  second: Any,
  *,
  number: int = 7,
  guidance: float | None = None,
  steps: int | None = None,
) -> np.ndarray:
  """Draws what is between two images (DALL-E 2, section 3.2).

  Both their embeddings and the noise out of which they are drawn again are
  interpolated along arcs.

  Args:
    run: the trained model.
    first: an image.
    second: another one.
    number: number of drawings n, of which the first and the last are those of
      the images themselves.
    guidance: factor of classifier-free guidance; None for the task's.
    steps: number of steps; None for the task's.

  Returns:
    uint8 [n, H, W, 3].

  Raises:
    ConfigError: if a setting is not legal.
  """
  if number < 2:
    raise ConfigError(f'number={number} is not legal; use 2 or more')
  task = _choose(run, guidance, steps)
  embeddings = _embed_images(run, task, [first, second])
  noise = _invert(run, task, [first, second], embeddings)
  amounts = jnp.linspace(0, 1, number)
  between = lambda x: ops.slerp(x[:1], x[1:], amounts)
  return _draw(run, task, between(embeddings), 0, noise=between(noise))


def change(
  run: base.TrainedModel,
  image: Any,
  before: str,
  after: str,
  *,
  number: int = 5,
  most: float = 0.5,
  guidance: float | None = None,
  steps: int | None = None,
) -> np.ndarray:
  """Draws an image as if one text about it became another.

  Text diffs (DALL-E 2, section 3.3): the image's embedding is rotated towards
  the difference of the two texts' embeddings, and drawn out of the same noise.

  Args:
    run: the trained model.
    image: an image.
    before: a text that holds of it.
    after: a text that should hold.
    number: number of drawings n, of rotations from 0 to `most`.
    most: part of the way to the difference, 0 to 1; the paper has 0.25 to 0.5.
    guidance: factor of classifier-free guidance; None for the task's.
    steps: number of steps; None for the task's.

  Returns:
    uint8 [n, H, W, 3].

  Raises:
    ConfigError: if a setting is not legal, or a text is longer than the model
      reads.
  """
  if number < 2:
    raise ConfigError(f'number={number} is not legal; use 2 or more')
  if not 0 < most <= 1:
    raise ConfigError(
      f'most={most} is not legal; use a number above 0, up to 1'
    )
  task = _choose(run, guidance, steps)
  batch = denoise.make_texts_batch(run, task, [before, after], 0)
  del batch['seed']
  texts = run.predict(predict.make_embed, batch, name=task.condition)
  difference = ops.unit_norm(texts[1:] - texts[:1])
  embedding = _embed_images(run, task, [image])
  noise = _invert(run, task, [image], embedding)
  rotated = ops.slerp(embedding, difference, jnp.linspace(0, most, number))
  return _draw(run, task, rotated, 0, noise=jnp.repeat(noise, number, axis=0))


def _choose(
  run: base.TrainedModel, guidance: float | None, steps: int | None
) -> 'Unclip':
  task = base.find_task(run, Unclip)
  return denoise.choose(task, guidance=guidance, steps=steps)


def _prepare_images(
  run: base.TrainedModel, task: 'Unclip', images: Any
) -> Batch:
  images = list(images) if isinstance(images, list | tuple) else [images]
  return run.prepare(**{task.feature: images})


def _embed_images(run: base.TrainedModel, task: 'Unclip', images: Any) -> Array:
  """Unit vectors [N, E]."""
  batch = _prepare_images(run, task, images)
  return run.predict(predict.make_embed, batch, name=task.feature)


def _invert(
  run: base.TrainedModel, task: 'Unclip', images: Any, embeddings: Array
) -> Array:
  """The noise [N, H, W, C] of which images are drawn again."""
  batch = {
    **_prepare_images(run, task, images),
    'image_embedding': embeddings,
  }
  sampling = predict_unclip.Sampling(**task.sampler_settings())
  return run.predict(predict_unclip.make_invert, batch, generator=sampling)


def _draw(
  run: base.TrainedModel,
  task: 'Unclip',
  embeddings: Array,
  seed: int,
  **more: Array,
) -> np.ndarray:
  """Images [N, H, W, 3] uint8 of embeddings [N, E]; `more` may have `noise`."""
  batch = {
    'image_embedding': embeddings,
    'seed': denoise.make_seeds(seed, len(embeddings)),
    **more,
  }
  if 'noise' in more:
    task = dataclasses.replace(task, sampler='ddim')
  feature = run.preprocessor[task.feature]
  images = run.predict(
    predict.make_draw,
    batch,
    shape=tuple(feature.shape),
    **task.sampler_settings(),
  )
  return masked.to_pixels(feature, np.asarray(images))


def _draw_cells(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  *,
  seed: int = 0,
  guidance: float | None = None,
  copies: int = 1,
) -> list[contact_sheet.Cell]:
  """Cards of drawings of texts, or of an image that two texts change."""
  if not inputs:
    return draw_lib.draw_cells(
      run, inputs, texts, seed=seed, guidance=guidance, copies=copies
    )
  if len(texts) != 2:
    raise ConfigError(
      f'an image and {len(texts)} texts: to change an image give two, what '
      'holds of it and what should, as in --text="a red circle" '
      '--text="a blue circle"'
    )
  images = change(run, base.get_image(inputs), *texts, guidance=guidance)
  return [
    (image, [texts[0] if i == 0 else f'... {texts[1]}'])
    for i, image in enumerate(images)
  ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unclip(draw_lib.Draw):
  """The generator of DALL-E 2 learns to draw images of their embeddings.

  The embeddings are those of the model's towers in training, and of its prior
  where images are drawn of texts. Beside `drawings`, those of texts, the
  evaluator `variations` draws images of the embeddings of the records' own.

  Attributes:
    prior: settings of `tasks.prior` that the prior was trained with.
  """

  ability: ClassVar[str] = 'draw images of texts, and vary images'
  methods: ClassVar[Mapping[str, Any]] = {
    **draw_lib.Draw.methods,
    'vary': vary,
    'interpolate': interpolate,
    'change': change,
  }
  maker: ClassVar[Any] = staticmethod(predict_unclip.make_unclip)
  predict_use: ClassVar[base.PredictUse | None] = dataclasses.replace(
    draw_lib.Draw.predict_use, draw=_draw_cells
  )

  prior: Mapping[str, Any] | None = None

  def check(self) -> None:
    super().check()
    self._find_prior()

  def sampling(self, features: Mapping[str, Feature]) -> dict[str, Any]:
    """Arguments of `predict_unclip.make_unclip`."""
    return {**super().sampling(features), **self._find_prior().sampling()}

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}variations'
    settings = super().sampling(context.preprocessor.features)
    make = predict_unclip.make_variations
    return {
      **super().evaluators(context),
      name: evaluators.Drawings(
        make(context.model, feature=self.feature, **settings),
        None,
        context.source,
        context.preprocessor,
        feature=self.feature,
        condition=self.condition,
        inputs=(self.feature,),
        holds=drawings.CHECKS.get(context.config.data.name.split('/')[0]),
        name=name,
        **context.settings(),
      ),
    }

  def _find_prior(self) -> prior_lib.Prior:
    try:
      named = {'prior': self.prior or {}}
      return build_tasks(named, {'prior': prior_lib.Prior})['prior']
    except ConfigError as error:
      message = str(error).replace('tasks.prior', 'tasks.unclip.prior')
      raise ConfigError(message) from error
