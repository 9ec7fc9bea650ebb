"""What `init_from` names: parts of a model and their sources."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmjax import models
from mmjax.errors import ConfigError
from mmjax.runs import trained_encoders, weight_source


@dataclasses.dataclass(frozen=True)
class InitEntry:
  """A part of the config's model, '' for the whole, and what it starts from.

  Attributes:
    part: part, as in `init_from`.
    source: the trained model.
    encoder: for a part 'encoders.NAME', the source's.
  """

  part: str
  source: weight_source.WeightSource
  encoder: trained_encoders.Encoder | None = None

  @property
  def name(self) -> str:
    """Name of the config's encoder."""
    return _split(self.part)[0]

  @property
  def of_frames(self) -> bool:
    """Whether the part is the image encoder of an encoder of videos."""
    return bool(_split(self.part)[1])

  @property
  def path(self) -> str:
    """Path of the config's section that describes the part."""
    if self.encoder:
      path = f'model.encoders.{self.name}'
      return f'{path}.image' if self.of_frames else path
    return f'model.{self.part}' if self.part else 'model'

  @property
  def kind(self) -> str:
    """Key of `models.PARTS` whose classes the part has; '' for the whole."""
    return self.encoder.part if self.encoder else self.part

  @property
  def below(self) -> str:
    """Path of the part's parameters in the model, with its slash."""
    if self.encoder:
      path = trained_encoders.module_path(self.name)
      return path + ('image/' if self.of_frames else self.encoder.inside)
    return f'{self.part}/' if self.part else ''

  @property
  def inside(self) -> str:
    """Path of the parameters in the source, with its slash."""
    if self.encoder:
      return self.encoder.path
    return self.source.part(self.part)[1] if self.part else ''

  def section(self, config: Any) -> Any:
    """The section of the config that describes the part; None for none."""
    if self.encoder:
      section = config.model.encoders[self.name]
      return section.get('image') if self.of_frames else section
    return config.model.get(self.part) if self.part else config.model


def is_local(config: Any) -> bool:
  """Whether all that `init_from` names are folders: nothing is downloaded."""
  folders = [e.rpartition('=')[2] for e in config.init_from.split(',')]
  return all(
    Path(folder).is_dir() or Path(folder.partition('#')[0]).is_dir()
    for folder in map(str.strip, folders)
  )


def find(config: Any) -> Iterator[InitEntry]:
  """Yields each part that `init_from` names, and what it starts from.

  Raises:
    ConfigError: if a part or a folder is missing, named twice or unknown, or a
      source has no such encoder.
  """
  seen = set()
  for entry in config.init_from.split(','):
    part, equals, folder = map(str.strip, entry.rpartition('='))
    if not folder or part in seen:
      raise ConfigError(
        f'init_from={config.init_from!r}: '
        + (f'{part} is named twice' if folder else 'a folder is missing')
      )
    seen.add(part)
    if part.startswith(trained_encoders.PREFIX):
      yield _find_encoder(config, part, folder)
      continue
    if equals and part not in models.PARTS:
      raise ConfigError(
        f'init_from={config.init_from!r}: {part!r} is not a part of a model; '
        f'use one of {", ".join(models.PARTS)}, encoders.NAME of a multimodal '
        'model, or a folder alone for the whole'
      )
    if not part and ',' in config.init_from:
      raise ConfigError(
        f'init_from={config.init_from!r}: of several folders each needs its '
        'part, such as image=FOLDER,text=FOLDER'
      )
    if part in models.ENCODER_PARTS.values() and config.model.get('encoders'):
      raise ConfigError(
        f'init_from={config.init_from!r}: the encoders of this model have '
        f'names of their own; write encoders.NAME={folder}, NAME one of '
        f'{", ".join(config.model.encoders)}'
      )
    source = weight_source.find(folder)
    if not part and isinstance(source.module, models.Multimodal):
      raise ConfigError(
        f"init_from={config.init_from!r}: a run with the model 'multimodal' is "
        'not taken as a whole; name its encoders, as in init_from='
        + ','.join(_list_encoders(config, source))
      )
    yield InitEntry(part, source)


def _list_encoders(
  config: Any, source: weight_source.WeightSource
) -> list[str]:
  """Entries of `init_from` for the encoders of a `multimodal` run."""
  theirs = list(source.module.encoders)
  ours = config.model.get('encoders') or {}
  return [
    f'encoders.{name}={source.folder}#encoders.{name}'
    for name in [n for n in theirs if n in ours] or theirs
  ]


def _find_encoder(config: Any, part: str, folder: str) -> InitEntry:
  """What an encoder of a `multimodal` model starts from."""
  chosen = ''
  if not Path(folder).exists():
    folder, _, chosen = folder.partition('#')
  source = weight_source.find(folder)
  name, inner = _split(part)
  if inner not in ('', 'image'):
    raise ConfigError(
      f'init_from={config.init_from!r}: {part!r} is not a part of an encoder; '
      f'use encoders.{name}, or encoders.{name}.image for the encoder of the '
      'frames of a video'
    )
  encoder = trained_encoders.find(
    source, config, name, chosen, of_frames=bool(inner)
  )
  return InitEntry(part, source, encoder)


def _split(part: str) -> tuple[str, str]:
  """The NAME of a part encoders.NAME or encoders.NAME.image, and 'image'."""
  name, _, inner = part.removeprefix(trained_encoders.PREFIX).partition('.')
  return name, inner
