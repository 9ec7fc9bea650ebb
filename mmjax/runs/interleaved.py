"""What published models with images or sounds among words are trained as."""

from collections.abc import Mapping
from typing import Any

from mmjax import models
from mmjax.runs import weight_source

# Names of models that keep the parts and the place of images.
_KEPT = ('interleaved', 'embedder')


def describe(
  given: Mapping[str, Any], source: weight_source.WeightSource, part: str
) -> dict[str, Any]:
  """The settings of a part of a source, '' for the whole.

  A whole model with images among its words becomes one image first, unless the
  config names another model of its parts. How many tokens of sounds are merged
  stays the config's, for an encoder that starts from another model's.

  Args:
    given: the config's `model`.
    source: the trained model.
    part: as in `init_from`.

  Raises:
    ConfigError: if there is no such part, or a config can't name the model.
  """
  module, name = source.module, given.get('name')
  is_kept = not part and name in _KEPT
  if not is_kept or type(module) is not models.InterleavedVisionLanguage:
    module, _ = source.part(part)
  described = weight_source.with_init_from_errors(
    models.describe, module, source.tables
  )
  merged = (given.get('audio') or {}).get('merged')
  if part == 'audio' and merged is not None:
    described['merged'] = merged
  if described['name'] == 'interleaved_audio':
    described['spectrogram'] = find_spectrogram(source)
  if name == 'embedder' and described['name'] == 'interleaved':
    return _embed_with(described, given)
  return described


def find_spectrogram(source: weight_source.WeightSource) -> dict[str, Any]:
  """Settings of the spectrogram that a source's `audio` was trained with."""
  own = source.spectrogram or getattr(source.module, 'spectrogram', None)
  return dict(own or {})


def _embed_with(
  described: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
  """An embedder with the parts of a model, and the config's own settings."""
  shared = models.settings_of('interleaved')
  own = models.settings_of('embedder').keys() - shared.keys()
  return {
    **{key: x for key, x in described.items() if key != 'placeholders'},
    **{key: given[key] for key in sorted(own) if key in given},
    'name': 'embedder',
  }
