"""Encoders of a `multimodal` model that start from trained ones."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn

from mmjax import encoders, models
from mmjax.config import components
from mmjax.data import feeds
from mmjax.errors import ConfigError
from mmjax.runs import weight_source

PREFIX = 'encoders.'
# Attributes of models that may be encoders; '' is the model itself.
_ATTRIBUTES = (
  '',
  'image',
  'vision',
  'text',
  'question',
  'audio',
  'sound',
  'video',
  'encoder',
)
# Fields of `FromSamples` that the feature and the encoder set.
_NO_SPECTROGRAM = ('encoder', 'sample_rate', 'parent', 'name')
_DEFAULTS = {
  field.name: field.default
  for field in dataclasses.fields(encoders.FromSamples)
}


@dataclasses.dataclass(frozen=True)
class Encoder:
  """An encoder of a trained model.

  Attributes:
    part: part whose classes have it, such as 'sound'.
    module: the encoder; of sounds that of their samples, `FromSamples`.
    path: path of its parameters in the source, with its slash.
    inside: where they are in an encoder of a config, with its slash.
    inputs: settings of the features that it reads, in order.
  """

  part: str
  module: nn.Module
  path: str
  inside: str = ''
  inputs: tuple[Mapping[str, Any], ...] = ({},)

  def describe(self, tables: models.Tables) -> dict[str, Any]:
    """Settings of `model.encoders.NAME`, without `inputs`.

    Raises:
      ConfigError: if no config can name its class.
    """
    if not isinstance(self.module, encoders.FromSamples):
      return models.describe(self.module, tables)
    spectrogram = {
      field.name: getattr(self.module, field.name)
      for field in dataclasses.fields(encoders.FromSamples)
      if field.init and field.name not in _NO_SPECTROGRAM
    }
    spectrogram = {k: v for k, v in spectrogram.items() if v != _DEFAULTS[k]}
    return {
      **models.describe(self.module.encoder, tables),
      'spectrogram': spectrogram,
    }


def find(
  source: weight_source.WeightSource,
  config: Any,
  name: str,
  chosen: str,
  *,
  of_frames: bool = False,
) -> Encoder:
  """Finds what an encoder of a config starts from.

  Args:
    source: a published model or a run.
    config: a completed config, whose model has `encoders`.
    name: name of its encoder.
    chosen: name of the source's encoder, such as 'image' or 'encoders.voice';
      '' for the only one of the kind.
    of_frames: whether it is to encode the frames of a video, as an image.

  Raises:
    ConfigError: if there is none, several and none is chosen, or it reads
      another kind of features.
  """
  found = _list(source)
  kinds = [_find_part(config, feature) for feature in _reads(config, name)]
  if of_frames:
    if kinds != ['video']:
      raise ConfigError(
        f'init_from: {PREFIX}{name}.image is for an encoder of videos, but '
        f'model.{PREFIX}{name} reads the kind {kinds[0]}; leave out .image'
      )
    kinds = ['image']
  listed = ', '.join(f'{key} ({e.part})' for key, e in found.items()) or 'none'
  where = f'init_from: {PREFIX}{name}={source.folder}'
  if chosen and chosen not in found:
    raise ConfigError(
      f'{where}#{chosen}: there is no such encoder; there are: {listed}'
    )
  if refused := source.refused.get(kinds[0]):
    raise ConfigError(f'init_from: {source.folder} {refused}')
  fits = {k: e for k, e in found.items() if e.part == kinds[0]}
  if chosen and chosen not in fits:
    raise ConfigError(
      f'{where}#{chosen} encodes the kind {found[chosen].part}, but '
      f'{PREFIX}{name} reads {kinds[0]}; there are: {listed}'
    )
  if not chosen and len(fits) != 1:
    raise ConfigError(
      f'{where} has {len(fits) or "no"} encoders of the kind {kinds[0]}; '
      f'there are: {listed}'
      + (f'; choose one, as in {source.folder}#{min(fits)}' if fits else '')
    )
  encoder = fits[chosen or next(iter(fits))]
  if len(encoder.inputs) != len(kinds):
    raise ConfigError(
      f'{where} reads {len(encoder.inputs)} features, but {PREFIX}{name} reads '
      f'{len(kinds)}; make model.{PREFIX}{name}.inputs as many, in that order'
    )
  return encoder


def data_settings(
  encoder: Encoder, source: weight_source.WeightSource, config: Any, name: str
) -> Iterator[tuple[str, Any]]:
  """Settings of `data` that come with an encoder, by their path.

  Args:
    encoder: what `find` returned.
    source: where it is.
    config: the config, which may have shorter lengths.
    name: name of its encoder.
  """
  if encoder.part == 'text':
    for setting in models.PARTS['text'].data:
      if setting in source.data:
        yield setting, source.data[setting]
  for feature, settings in zip(
    _reads(config, name), encoder.inputs, strict=True
  ):
    for setting, value in settings.items():
      if setting == 'seconds' and _accepts_shorter(encoder.module):
        given = _own_feature(config, feature).get(setting, value)
        value = min(given, value)
      yield _path(config, feature, setting), value
    most = getattr(encoder.module, 'max_length', None)
    if encoder.part == 'text' and most:
      path = _path(config, feature, 'length')
      given = _get(config, feature, 'length')
      padded = getattr(encoder.module, 'reads_padding', False)
      yield path, most if padded else min(given, most)


def module_path(name: str) -> str:
  """Path of the parameters of a config's encoder, with its slash."""
  return f'encoders_{name}/'


def _list(source: weight_source.WeightSource) -> dict[str, Encoder]:
  """The encoders of a trained model, by the names that choose them."""
  if isinstance(source.module, models.Multimodal):
    return dict(_list_named(source))
  found = {}
  for attribute in _ATTRIBUTES:
    module = source.module
    if attribute:
      module = getattr(module, attribute, None)
    part = _part_of(module, source.tables)
    if part is None:
      continue
    path = f'{attribute}/' if attribute else ''
    found[attribute or part] = _make(source, part, module, path)
  return found


def _list_named(
  source: weight_source.WeightSource,
) -> Iterator[tuple[str, Encoder]]:
  """The encoders of a `multimodal` run."""
  for name, module in source.module.encoders.items():
    names = (source.module.encoder_inputs or {}).get(name, (name,))
    inputs = [source.inputs[feature] for feature in names]
    yield (
      f'{PREFIX}{name}',
      Encoder(
        part=inputs[0].part,
        module=module,
        path=module_path(name),
        inputs=tuple(read.settings for read in inputs),
      ),
    )


def _make(
  source: weight_source.WeightSource, part: str, module: nn.Module, path: str
) -> Encoder:
  """An encoder that is a part of another kind of model, or all of it."""
  held = source.inputs.get(path.rstrip('/')) or source.inputs.get(part)
  settings = held.settings if held else {}
  if part != 'sound':
    return Encoder(part, module, path, inputs=(settings,))
  module = encoders.FromSamples(module, **source.spectrogram)
  return Encoder(part, module, path, inside='encoder/', inputs=(settings,))


def _part_of(module: Any, tables: models.Tables) -> str | None:
  """The part whose classes have an encoder; None if it isn't one."""
  for part in dict.fromkeys(models.ENCODER_PARTS.values()):
    if type(module) in tables.parts[part].classes.values():
      return part
  return None


def _accepts_shorter(module: nn.Module) -> bool:
  """Whether an encoder of sounds reads windows of any length up to its own."""
  return isinstance(module.encoder, encoders.AudioTransformer)


def _reads(config: Any, name: str) -> tuple[str, ...]:
  """The features that an encoder of the config reads.

  Raises:
    ConfigError: if the config's model has no such encoder.
  """
  inputs = models.find_encoder_inputs(config.model)
  if name not in inputs:
    raise ConfigError(
      f'init_from: {PREFIX}{name}: model.encoders has '
      f'{", ".join(inputs) or "none"}; add {name} to it, with the model '
      "'multimodal'"
    )
  return inputs[name]


def _find_part(config: Any, feature: str) -> str | None:
  """The part that encodes a feature of the config."""
  own = _own_feature(config, feature)
  standard = {'question': 'text'}.get(feature, feature)
  kind = own.get('kind') if own else standard
  cls = components.of(config).kind_table.get(kind)
  if cls is None or (not own and feature not in feeds.STANDARD):
    raise ConfigError(
      f'init_from: data.features has no {feature!r} of a known kind, which an '
      'encoder reads; add it'
    )
  return models.ENCODER_PARTS.get(cls(name=feature).encoded_as)


def _own_feature(config: Any, feature: str) -> Mapping[str, Any]:
  """The entry of `data.features`; {} of features that need none."""
  return (config.data.features or {}).get(feature) or {}


def _path(config: Any, feature: str, setting: str) -> str:
  """Where `data` has a setting of a feature."""
  if _own_feature(config, feature):
    return f'features.{feature}.{setting}'
  return feeds.STANDARD[feature][setting]


def _get(config: Any, feature: str, setting: str) -> Any:
  """A setting of a feature, or its default."""
  own = _own_feature(config, feature)
  if not own:
    return config.data[feeds.STANDARD[feature][setting]]
  cls = components.of(config).kind_table[own['kind']]
  return own.get(setting, getattr(cls(name=feature), setting))
