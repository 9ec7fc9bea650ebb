"""Classes of images by the texts that describe them, without training.

Radford et al. 2021, section 3.1: the class whose text is nearest to the image;
the vectors of several texts of a class are averaged.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from mmjax import evaluators
from mmjax.data import features, feeds, preprocess, sources
from mmjax.errors import ConfigError
from mmjax.inference import (
  embedding,
  encoders,
  measures,
  published_features,
  targets,
)
from mmjax.inference import opened as opened_lib
from mmjax.models import predict
from mmjax.types import Batch, Params

NAME = 'zero_shot'
TEMPLATES = ('a photo of a {}.',)


def can_classify(model: opened_lib.Opened) -> bool:
  """Whether a model embeds images and texts in one space."""
  kinds = {e.kind for e in encoders.list_encoders(model).values()}
  return {'image', 'text'} <= kinds


def make(
  model: opened_lib.Opened, source: sources.Source, options: Any
) -> measures.Measure:
  """The evaluator of zero-shot classification.

  Args:
    model: a model that `can_classify`.
    source: records.
    options: options of `evaluating`.

  Raises:
    ConfigError: if the data have no such classes, a template has no {}, or the
      data lack images.
  """
  for template in options.templates:
    if '{}' not in template:
      raise ConfigError(
        f'--template={template!r} has no {{}}, where the name of a class is '
        f'put; write for example {TEMPLATES[0]!r}'
      )
  field = targets.choose(source, options.target)
  target = targets.make(source, field, options.classes, options.num_examples)
  image, encode = _find_image(model)
  named = {image.name: image, 'target': target}
  feeds.check_fields(named, source)
  vectors = encode_classes(model, target.classes, options.templates)

  def classify(params: Params, batch: Batch) -> Any:
    return encode(params, batch) @ jnp.asarray(vectors).T

  evaluator = evaluators.Classes(
    classify,
    source,
    preprocess.Preprocessor(named),
    target='target',
    inputs=(image.name,),
    batch_size=options.batch_size,
    num_examples=options.num_examples,
    name=NAME,
  )
  shown = ', '.join(map(repr, options.templates))
  return measures.Measure(
    model.model.params,
    {NAME: evaluator},
    targets.make_report_rows(NAME, field, 'right (zero-shot)'),
    (
      f'{len(target.classes)} classes, '
      f'{targets.describe_origin(source, field, options.classes)}; described '
      f'by {shown} (--template)',
      *targets.note_other_classes(source, target, options.num_examples),
    ),
  )


def encode_classes(
  model: opened_lib.Opened, classes: Sequence[str], templates: Sequence[str]
) -> np.ndarray:
  """Unit vectors [C, E] of classes.

  Args:
    model: a model that embeds texts.
    classes: names of C classes.
    templates: texts with {} for the name, whose vectors are averaged.
  """
  encoder = encoders.choose_encoder(model, 'text')
  size = min(64, len(classes))
  sums = 0.0
  for template in templates:
    texts = [encoder.prepare(template.replace('{}', c)) for c in classes]
    vectors = np.concatenate(
      [
        embedding.encode_padded(encoder, texts[i : i + size], size)
        for i in range(0, len(texts), size)
      ]
    )
    sums = sums + vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def _find_image(
  model: opened_lib.Opened,
) -> tuple[features.Feature, Callable[[Params, Batch], Any]]:
  """The feature of images, and the function that embeds them."""
  name = encoders.choose_encoder(model, 'image').feature
  if model.is_run:
    feature = model.model.preprocessor[name]
    return feature, predict.make_embed(model.model.module, name=name)
  feature = published_features.PublishedImage(name=name, model=model.model)
  return feature, measures.make_image_function(model.model, feature)
