"""What encodes the values of a feature of a trained model to vectors."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmjax import pretrained
from mmjax.data import audio, features, images
from mmjax.errors import ConfigError, choose
from mmjax.inference import opened as opened_lib
from mmjax.models import predict
from mmjax.pretrained import (
  classifiers,
  dual_encoders,
  families,
  image_text_models,
  speech_recognizers,
  text_encoders,
)
from mmjax.runs import rebuild


@dataclasses.dataclass(frozen=True)
class Encoder:
  """Encodes values of one feature: each by itself, then a batch of them.

  Attributes:
    feature: name of the feature.
    kind: kind of its values: 'image', 'text', 'sound' or 'video'.
    prepare: function from what a person passes, such as a path, to arrays. It
      raises ConfigError or OSError for what can't be read.
    prepare_stored: the same from a value of a record of a data set.
    encode: function from what `prepare` returned for B values to vectors
      [B, E].
  """

  feature: str
  kind: str
  prepare: Callable[[Any], Any]
  prepare_stored: Callable[[Any], Any]
  encode: Callable[[Sequence[Any]], np.ndarray]


def choose_encoder(
  model: opened_lib.Opened, kind: str, feature: str = ''
) -> Encoder:
  """The encoder of a kind of values.

  Args:
    model: the model.
    kind: 'image', 'text', 'sound' or 'video'.
    feature: its name, where a run encodes several of the kind; '' for
      the only one.

  Raises:
    ConfigError: if the model has none, or several and none is chosen; it lists
      those that there are.
  """
  found = list_encoders(model)
  if not found:
    raise ConfigError(f'{model.name}: {_explain_none(model)}')
  listed = ', '.join(f'{name} ({e.kind})' for name, e in found.items())
  if feature:
    encoder = choose(feature, found, f'{model.name}: the feature')
    if encoder.kind != kind:
      raise ConfigError(
        f'{model.name}: the feature {feature!r} is of the kind {encoder.kind}, '
        f'not {kind}; the model embeds {listed}'
      )
    return encoder
  fits = [encoder for encoder in found.values() if encoder.kind == kind]
  if not fits:
    raise ConfigError(
      f'{model.name} has no encoder of the kind {kind}; it embeds {listed}'
    )
  if len(fits) > 1:
    raise ConfigError(
      f'{model.name} has several encoders of the kind {kind}: {listed}; choose '
      f'one, as in --feature={fits[0].feature}'
    )
  return fits[0]


def list_encoders(model: opened_lib.Opened) -> dict[str, Encoder]:
  """The encoders of a model by feature, all into one space."""
  find = _of_run if model.is_run else _of_published
  return {encoder.feature: encoder for encoder in find(model.model)}


def stack(examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
  """Arrays with a batch axis from those of single examples."""
  return {
    key: np.stack([example[key] for example in examples]) for key in examples[0]
  }


def _explain_none(model: opened_lib.Opened) -> str:
  if model.is_run:
    return (
      "the run has no task that brings features into one space, 'contrastive', "
      "'align' or one of your own whose `embeds` names them; its own methods "
      'may have what you want: run = mmjax.load(FOLDER)'
    )
  return (
    f'a {families.name_kind(model.model.config)} with a '
    f'{type(model.model.module).__name__} has no vectors of images, texts or '
    'sounds; use CLIP, SigLIP, a sentence encoder, BERT, ViT, DINOv2, AST or '
    'the like'
  )


def _of_run(run: rebuild.Run) -> Iterator[Encoder]:
  """The features that the run's tasks bring into one space."""
  names = dict.fromkeys(
    name for task in run.tasks.values() for name in task.embeds
  )
  for name in names:
    yield _of_feature(run, run.preprocessor[name])


def _of_feature(run: rebuild.Run, feature: features.Feature) -> Encoder:
  return Encoder(
    feature=feature.name,
    kind=feature.encoded_as,
    prepare=feature.prepare,
    prepare_stored=lambda value: feature.make_arrays(value, None, flips=True),
    encode=lambda examples: np.asarray(
      run.predict(
        predict.make_embed,
        run.preprocessor.make_inputs(stack(examples)),
        name=feature.name,
      )
    ),
  )


def _of_published(model: pretrained.Pretrained) -> Iterator[Encoder]:
  for _kind, classes in _PUBLISHED.items():
    for cls, make in classes.items():
      if isinstance(model, cls) and _can_embed(model):
        yield make(model)
        break


def _can_embed(model: pretrained.Pretrained) -> bool:
  if isinstance(model, image_text_models.PublishedImageTextModel):
    return model.embeds
  return True


def _make_image_encoder(method: str) -> Callable[[Any], Encoder]:
  """Makes the encoder of images by a method of the published module."""

  def make(model: pretrained.Pretrained) -> Encoder:
    program = model.jit_method(method)

    def encode(examples: Sequence[Any]) -> np.ndarray:
      pixels = jax.tree.map(lambda *rows: np.concatenate(rows), *examples)
      out = program(model.params, pixels)
      return np.asarray(getattr(out, 'pooled', out))

    prepare = lambda image: jax.tree.map(np.asarray, model.preprocess([image]))
    return Encoder(
      feature='image',
      kind='image',
      # A file is decoded apart, so that an error names it.
      prepare=lambda value: prepare(images.to_array(value)),
      prepare_stored=lambda value: prepare(images.decode(value)),
      encode=encode,
    )

  return make


def _make_text_encoder(model: Any) -> Encoder:
  def prepare(text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
      raise ConfigError(f'a text is expected, not {text!r:.80}')
    return text

  return Encoder(
    feature='text',
    kind='text',
    prepare=prepare,
    prepare_stored=prepare,
    encode=lambda texts: np.asarray(model.encode_text(list(texts))),
  )


def _make_sound_encoder(model: Any) -> Encoder:
  rate = model.preprocessor.sample_rate

  def prepare(sound: Any) -> np.ndarray:
    samples = (
      sound if isinstance(sound, np.ndarray) else audio.read(sound, rate)
    )
    if isinstance(model, speech_recognizers.PublishedSpeechRecognizer):
      number = len(model.preprocessor.cut_windows(samples))
      if number > 1:
        raise ConfigError(
          f'a sound of {len(samples) / rate:.1f} seconds is longer than a '
          f'window of {model.preprocessor.seconds}; cut it'
        )
    return samples

  return Encoder(
    feature='sound',
    kind='sound',
    prepare=prepare,
    prepare_stored=lambda value: prepare(
      audio.resample(*audio.decode(value), rate)
    ),
    encode=lambda sounds: np.asarray(model.encode_audio(list(sounds)).pooled),
  )


# By kind, the classes of published models with such an encoder.
_PUBLISHED: dict[str, dict[type, Callable[[Any], Encoder]]] = {
  'image': {
    dual_encoders.PublishedDualEncoder: _make_image_encoder('encode_image'),
    image_text_models.PublishedImageTextModel: _make_image_encoder(
      'encode_image'
    ),
    classifiers.PublishedImageEncoder: _make_image_encoder('encode'),
  },
  'text': {
    dual_encoders.PublishedDualEncoder: _make_text_encoder,
    image_text_models.PublishedImageTextModel: _make_text_encoder,
    text_encoders.PublishedTextEncoder: _make_text_encoder,
  },
  'sound': {
    classifiers.PublishedAudioEncoder: _make_sound_encoder,
    speech_recognizers.PublishedSpeechRecognizer: _make_sound_encoder,
  },
}
