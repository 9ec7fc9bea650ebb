"""The task of encoding images to tokens or latents, and decoding them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np

from mmjax import evaluators, objectives
from mmjax.data import contact_sheet
from mmjax.data.features import Feature, Image
from mmjax.errors import ConfigError, check_choice
from mmjax.evaluators import masked
from mmjax.metrics import image_quality
from mmjax.models import predict_tokens as predict
from mmjax.objectives import autoencoding
from mmjax.tasks import base
from mmjax.types import FieldInfo


def reconstruct(run: base.TrainedModel, images: Any) -> np.ndarray:
  """Encodes and decodes images.

  Args:
    run: the trained model.
    images: one image or several, as `mmjax.data.images.to_array` reads them.

  Returns:
    uint8 [N, H, W, 3].
  """
  feature = base.find_task(run, Reconstruct).feature
  batch = run.prepare(**{feature: _as_list(images)})
  out = run.predict(predict.make_reconstruct, batch)
  return masked.to_pixels(run.preprocessor[feature], np.asarray(out))


def encode_tokens(run: base.TrainedModel, images: Any) -> np.ndarray:
  """Token ids, int32 [N, h, w], of images; [N, h, w, K] of 'rvq'.

  Args:
    run: the trained model.
    images: one image or several.

  Raises:
    ConfigError: for a model with latents instead of tokens.
  """
  return _encode(run, images, 'encode_tokens')


def decode_tokens(run: base.TrainedModel, ids: Any) -> np.ndarray:
  """Images, uint8 [N, H, W, 3], of token ids.

  Args:
    run: the trained model.
    ids: whole numbers [N, h, w], or [N, h, w, K] of K codebooks of 'rvq' or
      the first of them.

  Raises:
    ConfigError: for an id that is not one of the codebook's, an array of
      another rank, or a model with latents instead of tokens.
  """
  ids, size = np.asarray(ids), run.module.codebook.size
  depth = run.module.codebook.depth
  legal = [()] if depth is None else [(k,) for k in range(1, depth + 1)]
  whole = np.issubdtype(ids.dtype, np.integer)
  if not whole or ids.ndim < 3 or ids.shape[3:] not in legal:
    more = '' if depth is None else f', 1 to {depth} codebooks'
    raise ConfigError(
      f'ids are whole numbers [N, rows, columns{more}], not {ids.dtype} '
      f'{list(ids.shape)}'
    )
  wrong = ids[(ids < 0) | (ids >= size)] if size else ids[:0].ravel()
  if wrong.size:
    raise ConfigError(
      f'the id {wrong[0]} is not one of the {size} of the codebook, from 0'
    )
  return _decode(run, ids.astype(np.int32), 'decode_tokens')


def encode_latents(run: base.TrainedModel, images: Any) -> np.ndarray:
  """Latents, float32 [N, h, w, C], of images.

  Args:
    run: the trained model.
    images: one image or several.

  Raises:
    ConfigError: for a model with tokens instead of latents.
  """
  return _encode(run, images, 'encode_latents')


def decode_latents(run: base.TrainedModel, latents: Any) -> np.ndarray:
  """Images, uint8 [N, H, W, 3], of latents.

  Args:
    run: the trained model.
    latents: [N, h, w, C] as of `encode_latents`.

  Raises:
    ConfigError: for a model with tokens instead of latents.
  """
  return _decode(run, np.asarray(latents, np.float32), 'decode_latents')


def _as_list(images: Any) -> list[Any]:
  """Several images as a list, also of one image."""
  if isinstance(images, np.ndarray) and images.ndim == 4:
    return list(images)
  return list(images) if isinstance(images, list | tuple) else [images]


def _encode(run: base.TrainedModel, images: Any, method: str) -> np.ndarray:
  feature = base.find_task(run, Reconstruct).feature
  batch = run.prepare(**{feature: _as_list(images)})
  out = run.predict(predict.make_method, batch, method=method, feature=feature)
  return np.asarray(out)


def _decode(run: base.TrainedModel, codes: np.ndarray, method: str):
  feature = base.find_task(run, Reconstruct).feature
  batch = {'codes': codes}
  out = run.predict(predict.make_method, batch, method=method, feature='codes')
  return masked.to_pixels(run.preprocessor[feature], np.asarray(out))


def _lines(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  """How close the reconstruction is."""
  del texts, beam_size
  true, found = (x[None] / 255.0 for x in _both(run, inputs))
  ratio = image_quality.peak_signal_to_noise(true, found)[0]
  return [f'reconstruction: {ratio:.1f} dB peak signal-to-noise ratio']


def _draw(
  run: base.TrainedModel, inputs: Mapping[str, Any], texts: Sequence[str]
) -> list[contact_sheet.Cell]:
  """Cards of an image and of its reconstruction."""
  del texts
  labels = ('original', 'reconstruction')
  return [
    (image, [label])
    for image, label in zip(_both(run, inputs), labels, strict=True)
  ]


def _both(
  run: base.TrainedModel, inputs: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
  """An image as the model reads it, and its reconstruction."""
  name = base.find_task(run, Reconstruct).feature
  if name not in inputs:
    raise ConfigError(f'the task needs {name!r}; add --{name}=FILE')
  batch = run.prepare(**{name: [inputs[name]]})
  (true,) = masked.to_pixels(run.preprocessor[name], np.asarray(batch[name]))
  (found,) = reconstruct(run, [inputs[name]])
  return true, found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruct(base.Task):
  """The model encodes images to a map of tokens or latents, and decodes them.

  It needs no labels. With the codebooks 'vq', 'rvq', 'fsq' and 'lfq' of the
  model 'autoencoder' images become tokens, with 'gaussian' latents.

  Attributes:
    feature: feature of the kind image.
    distance: distance of pixels, 'absolute' or 'squared'.
    perceptual: weight of the distance in the space of `teacher`; 0 for none.
    teacher: with `perceptual`, the folder of a run that embeds images, or of a
      published dual encoder, or its name on the Hugging Face hub.
    width: E, size of the teacher's embedding.
    adversarial: weight of the adversarial loss, for a model with a
      `discriminator`; 0 for none.
    adversarial_start: number of steps without it.
  """

  ability: ClassVar[str] = 'encode images and decode them'
  report_rows: ClassVar[tuple[base.ReportRow, ...]] = (
    base.ReportRow(
      'reconstructions PSNR (dB)', 'reconstruct/psnr', 'reconstruct/plain_psnr'
    ),
    base.ReportRow('their structural similarity', 'reconstruct/ssim'),
    base.ReportRow("the codes' perplexity", 'reconstruct/perplexity'),
  )
  methods: ClassVar[Mapping[str, Any]] = {
    'reconstruct': reconstruct,
    'encode_tokens': encode_tokens,
    'decode_tokens': decode_tokens,
    'encode_latents': encode_latents,
    'decode_latents': decode_latents,
  }
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse(
    '', _lines, draw=_draw
  )

  feature: str = 'image'
  distance: str = 'absolute'
  perceptual: Annotated[float, FieldInfo(minimum=0)] = 0.0
  teacher: str = ''
  width: int = 0
  adversarial: Annotated[float, FieldInfo(minimum=0)] = 0.0
  adversarial_start: int = 0

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.Autoencoding:
    del features
    check_choice(
      self.distance, autoencoding.DISTANCES, 'tasks.reconstruct.distance'
    )
    settings = {
      'feature': self.feature,
      'distance': self.distance,
      'adversarial': float(self.adversarial),
      'adversarial_start': self.adversarial_start,
    }
    if not self.perceptual:
      return objectives.Autoencoding(**settings)
    return objectives.PerceptualAutoencoding(
      **settings, perceptual=float(self.perceptual)
    )

  def check(self) -> None:
    self.objective({})
    has_teacher = bool(self.teacher) and self.width > 0
    if bool(self.perceptual) != has_teacher:
      raise ConfigError(
        f'tasks.reconstruct.perceptual={self.perceptual}, teacher='
        f'{self.teacher!r} and width={self.width} go together; set all three, '
        'width to the size of its embedding, or none'
      )
    if self.adversarial_start and not self.adversarial:
      raise ConfigError(
        f'tasks.reconstruct.adversarial_start={self.adversarial_start} is when '
        'an adversarial loss starts; set adversarial, its weight, or leave it '
        'out'
      )

  def batch_keys(self) -> tuple[str, ...]:
    return (self.feature,)

  def find_teacher(
    self, features: Mapping[str, Feature]
  ) -> base.TeacherSpec | None:
    base.get_target(self.feature, features, (Image,))
    if not self.perceptual:
      return None
    return base.TeacherSpec(
      self.teacher,
      'embed',
      'image',
      objectives.PerceptualAutoencoding.output_key,
      self.width,
      {'image': self.feature},
    )

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    context.model.check_discriminator(self.adversarial > 0)
    name = f'{context.prefix}reconstruct'
    size = context.model.codebook.size
    encode = predict.make_method(
      context.model, method='encode_tokens', feature=self.feature
    )
    return {
      name: evaluators.Reconstructions(
        predict.make_reconstruct(context.model),
        encode if size else None,
        context.source,
        context.preprocessor,
        feature=self.feature,
        size=size,
        name=name,
        **context.settings(),
      )
    }
