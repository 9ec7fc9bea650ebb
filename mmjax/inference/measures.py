"""Evaluators of published models, by what their kind can do."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from mmjax import evaluators, pretrained, tasks
from mmjax.data import features, feeds, preprocess, sources
from mmjax.inference import opened as opened_lib
from mmjax.inference import published_features, targets
from mmjax.pretrained import (
  classifiers,
  dual_encoders,
  families,
  image_text_models,
)
from mmjax.types import Batch, Params


@dataclasses.dataclass(frozen=True)
class Measure:
  """Evaluators of one task.

  Attributes:
    params: parameters that the evaluators get.
    evaluators: by the prefix of their names.
    rows: what the table shows of them.
    notes: settings to report.
  """

  params: Params
  evaluators: Mapping[str, evaluators.Evaluator]
  rows: Sequence[tasks.ReportRow]
  notes: Sequence[str] = ()


# (model, source, options of `evaluating`) -> Measure.
MakePublished = Callable[[Any, sources.Source, Any], Measure]


def list_published(model: pretrained.Pretrained) -> dict[str, MakePublished]:
  """By task, what makes the evaluators of a published model."""
  if isinstance(model, dual_encoders.PublishedDualEncoder):
    return {'retrieval': _measure_retrieval}
  if isinstance(model, image_text_models.PublishedImageTextModel):
    return _BY_TASK[model.task]
  is_image = isinstance(model, classifiers.PublishedImageEncoder)
  if is_image and model.module.num_classes:
    return {'classify': _measure_classes}
  return {}


def explain_none(model: opened_lib.Opened) -> str:
  """Says that nothing of a model can be measured."""
  kind = families.name_kind(model.model.config)
  return (
    f'a {kind} with a {type(model.model.module).__name__} has no task that '
    'mmjax measures; CLIP, SigLIP and BLIP have, and classifiers of images'
  )


def make_image_function(
  model: pretrained.Pretrained, feature: published_features.PublishedImage
) -> Callable[[Params, Batch], Any]:
  """The predict function of a published encoder of images."""

  def encode(params: Params, batch: Batch) -> Any:
    return model.module.apply(
      {'params': params}, feature.join(batch), method='encode_image'
    )

  return encode


def _measure_retrieval(
  model: Any, source: sources.Source, options: Any
) -> Measure:
  image = published_features.PublishedImage(name='image', model=model)
  text = published_features.PublishedText(
    name='text', field='captions', model=model
  )
  prepared = _prepare(source, image, text)

  def encode_text(params: Params, batch: Batch) -> Any:
    return model.module.apply(
      {'params': params},
      batch['text'],
      batch['text_mask'],
      method='encode_text',
    )

  evaluator = evaluators.Retrieval(
    {'image': make_image_function(model, image), 'text': encode_text},
    source,
    prepared,
    gallery_by=options.gallery_by,
    name='retrieval',
    **_settings(options),
  )
  return Measure(
    model.params, {'retrieval': evaluator}, tasks.Contrastive().report_rows
  )


def _measure_captions(
  model: Any, source: sources.Source, options: Any
) -> Measure:
  image = published_features.PublishedImage(name='image', model=model)
  text = published_features.PublishedText(
    name='text', field='captions', model=model
  )
  prepared = _prepare_writing(source, model, image, text)
  write = _make_writer(model, 'caption', options)

  def generate(params: Params, batch: Batch) -> Any:
    ids = jnp.full((len(batch['image']), 1), model.module.bos_id, jnp.int32)
    prompt = {
      'decoder_prompt': ids,
      'decoder_prompt_mask': jnp.ones(ids.shape, bool),
    }
    return write(params, {'image': batch['image'], **prompt})

  evaluator = evaluators.Captions(
    generate, source, prepared, name='captions', **_settings(options)
  )
  rows = (
    *tasks.Captioning.report_rows,
    tasks.ReportRow('BLEU-4', 'captions/bleu4'),
    tasks.ReportRow('CIDEr-D', 'captions/cider_d'),
  )
  return Measure(model.params, {'captions': evaluator}, rows)


def _measure_answers(
  model: Any, source: sources.Source, options: Any
) -> Measure:
  image = published_features.PublishedImage(name='image', model=model)
  questions = published_features.PublishedQuestions(
    name='questions', model=model, length=1
  )
  prepared = _prepare_writing(source, model, image, questions)
  write = _make_writer(model, 'answer', options)
  evaluator = evaluators.Answers(
    lambda params, batch: write(
      params, {k: v for k, v in batch.items() if k != 'image_mask'}
    ),
    source,
    prepared,
    name='vqa',
    **_settings(options),
  )
  return Measure(
    model.params, {'vqa': evaluator}, tasks.VqaGeneration.report_rows
  )


def _measure_classes(
  model: Any, source: sources.Source, options: Any
) -> Measure:
  """Classes of a classifier, where the data have classes of the same names."""
  field = targets.choose(source, options.target)
  target = targets.make(source, field, model.labels, options.num_examples)
  image = published_features.PublishedImage(name='image', model=model)
  prepared = _prepare(source, image, target)

  def classify(params: Params, batch: Batch) -> Any:
    return model.module.apply(
      {'params': params}, image.join(batch), method='classify'
    )

  evaluator = evaluators.Classes(
    classify,
    source,
    prepared,
    target='target',
    inputs=('image',),
    name='classes',
    **_settings(options),
  )
  return Measure(
    model.params,
    {'classes': evaluator},
    targets.make_report_rows('classes', field, 'right'),
  )


def _prepare(
  source: sources.Source, *built: features.Feature
) -> preprocess.Preprocessor:
  """A preprocessor of fitted features.

  Raises:
    ConfigError: if the data lack one, or have it of another kind.
  """
  named = {feature.name: feature for feature in built}
  feeds.check_fields(named, source)
  return preprocess.Preprocessor(preprocess.fit(named, source))


def _prepare_writing(
  source: sources.Source, model: Any, *built: features.Feature
) -> preprocess.Preprocessor:
  """The same, with a decoder of the ids that a model writes."""
  prepared = _prepare(source, *built)
  return _Decoding(prepared.features, _Decoder(model))


def _settings(options: Any) -> dict[str, int]:
  return {
    'batch_size': options.batch_size,
    'num_examples': options.num_examples,
  }


@dataclasses.dataclass(frozen=True)
class _Decoder:
  """Decodes ids as the published model's methods do."""

  model: Any

  def decode(self, ids: Any) -> str:
    return self.model.decode(ids.tolist())


@dataclasses.dataclass(frozen=True)
class _Decoding(preprocess.Preprocessor):
  """A preprocessor whose features make ids by themselves."""

  def __post_init__(self):
    pass  # The tokenizer is a decoder alone, which no feature needs.


def _make_writer(
  model: Any, text_kind: str, options: Any
) -> Callable[[Params, Batch], Any]:
  settings = model.generation_settings(options.max_new_tokens)

  def write(params: Params, batch: Batch) -> Any:
    written = model.module.apply(
      {'params': params},
      batch,
      text_kind=text_kind,
      beam_size=options.beam_size,
      method='generate',
      **settings,
    )
    return jnp.where(written.mask, written.tokens, settings['pad_id'])

  return write


_BY_TASK: dict[str, dict[str, MakePublished]] = {
  'caption': {'captioning': _measure_captions},
  'answer': {'vqa': _measure_answers},
  'match': {'retrieval': _measure_retrieval},
}
