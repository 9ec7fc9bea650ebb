"""Starting a run from trained weights: a published model's, or another run's.

  --config.init_from=FOLDER                         the whole model
  --config.init_from=image=FOLDER                   its image tower alone
  --config.init_from=vision=FOLDER,decoder=FOLDER2  parts from two places

The architecture comes with the weights: the config's `model` section, or that
part of it, becomes theirs, and so do the settings of `data` that they were
trained with. What only concerns training stays the config's: dropout,
stochastic depth, rematerialisation; and whether a decoder has cross-attention,
which is new where the source has none. A folder may also be a model's name on
the Hugging Face hub.

A published language model that reads pictures where its placeholders stand is
trained without them: one picture first, see `mmjax.models.VisionLanguage`.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax import models
from mmjax.pretrained import base, checkpoint, hub, keys, preprocess
from mmjax.train import progress, rebuild, settings
from mmjax.types import Params

# In a run's folder: what belongs to the published model that it began from.
FOLDER = 'pretrained'
# What a config may say of a module whose weights it takes.
_TRAINING = ('dropout', 'word_dropout', 'drop_path', 'scan', 'remat')
_IMAGE = ('image_size', 'resize', 'mean', 'std')
# Settings of `data` that come with a part, and the lengths of what it reads.
_DATA = {
  'image': _IMAGE,
  'vision': _IMAGE,
  'text': ('tokenizer',),
  'question': ('tokenizer',),
  'decoder': ('tokenizer', 'bos'),
}
_LENGTHS = {
  'text': ('text_length',),
  'question': ('question_length',),
  'decoder': ('text_length', 'answer_length'),
}
# Where a source may have a part, but under its own name.
_ALSO = {'image': 'vision', 'vision': 'image', 'question': 'text'}


@dataclasses.dataclass(frozen=True)
class _Source:
  """A trained model, its weights not yet read.

  Attributes:
    folder: where it lies.
    module: its module.
    data: settings of `data` that it was trained with.
    shapes: of its parameters.
    read: shapes, with shardings -> parameters.
    files: the small files of a published model, by name.
    note: what the user should know.
  """

  folder: Path
  module: nn.Module
  data: Mapping[str, Any]
  shapes: Params
  read: Callable[[Params], Params]
  files: Mapping[str, bytes]
  note: str = ''


def resolve(config: Any) -> Any:
  """A copy of a config whose model and data are those of `init_from`.

  Args:
    config: a completed config.

  Raises:
    UserError: if a source is not there, or is no model that a config can name.
  """
  if not config.init_from:
    return config
  config = config.copy_and_resolve_references()
  told: dict[str, Any] = {}
  for part, source in _sources(config):
    module, _ = _part(source, part)
    described = _users(models.describe, module)
    given = config.model.get(part) if part else config.model
    _keep(described, given)
    if part == 'decoder':
      described['cross_attention'] = (given or {}).get('cross_attention', True)
    with config.unlocked(), config.ignore_type():
      if part:
        config.model[part] = described
      else:
        config.model = described
      for name, value in _data(config, source, part or described):
        config.data[name] = value
        told[f'data.{name}'] = value
    if source.note:
      progress.tell(f'init_from: {source.note}')
  listed = ', '.join(f'{name}={value!r}' for name, value in told.items())
  progress.tell(f'init_from sets the model and {listed}')
  return config


def _keep(described: dict[str, Any], given: Mapping[str, Any] | None) -> None:
  """Keeps what the config says of training, in a module and its parts."""
  for name in _TRAINING:
    if name in (given or {}) and name in models.settings_of(described['name']):
      described[name] = given[name]
  for part in models.PARTS:
    if part in described:
      _keep(described[part], (given or {}).get(part))


def load(config: Any, target: Params) -> Params:
  """Reads the weights.

  Args:
    config: what `resolve` gave, with `init_from`.
    target: shapes and shardings of the run's parameters.

  Returns:
    Parameters by path, 'image/...', for those that have a source.

  Raises:
    UserError: if the model lacks a parameter of the source's, or it has another
      shape; all are named.
  """
  wanted, found, wrong = keys.flat(target), {}, []
  for part, source in _sources(config):
    _, inside = _part(source, part)
    ours = {
      path: (f'{part}/' if part else '') + path.removeprefix(inside)
      for path in keys.flat(source.shapes)
      if path.startswith(inside)
    }
    shapes = keys.flat(source.shapes)
    for path, own in ours.items():
      if own not in wanted:
        # A twin that sees no image has none of these.
        sees = own.startswith(('image/', 'vision/', 'projector/'))
        if not (config.data.blind and sees):
          wrong.append(f'{own}: the model has no such parameter')
      elif wanted[own].shape != shapes[path].shape:
        wrong.append(
          f'{own}: {list(wanted[own].shape)} in the model, '
          f'{list(shapes[path].shape)} in {source.folder}'
        )
      else:
        shapes[path] = wanted[own]
    if wrong:
      continue
    read = keys.flat(_users(source.read, keys.tree(shapes)))
    found |= {own: read[path] for path, own in ours.items() if own in wanted}
  if wrong:
    raise settings.UserError(
      f'init_from={config.init_from!r} does not fit:\n  ' + '\n  '.join(wrong)
    )
  return found


def files(config: Any) -> dict[str, Callable[[Path], None]]:
  """What a run's folder keeps of the published model that it began from."""
  if not config.init_from:
    return {}
  return {
    f'{FOLDER}/{name}': functools.partial(Path.write_bytes, data=content)
    for part, source in _sources(config)
    for name, content in source.files.items()
    if not part
  }


def published(run: rebuild.Run, workdir: Path) -> base.Pretrained | None:
  """A run as the published model that it began from; None if from none."""
  if not (workdir / FOLDER / checkpoint.CONFIG).exists():
    return None
  config, small = checkpoint.read_small(workdir / FOLDER)
  family = checkpoint.family_of(config)
  module = family.module(config, jnp.dtype(run.config.train.dtype))
  theirs = keys.flat(checkpoint.shapes(module, family.inputs(config)))
  if theirs.keys() != keys.flat(run.params).keys():
    return None  # It has more, such as a classifier of answers.
  return family.Model(module, run.params, config, small)


def _sources(config: Any) -> Iterator[tuple[str, _Source]]:
  """Each part, '' for the whole, and what it starts from."""
  seen = set()
  for entry in config.init_from.split(','):
    part, equals, folder = entry.rpartition('=')
    if not folder or part in seen:
      raise settings.UserError(
        f'init_from={config.init_from!r}: '
        + (f'{part} is named twice' if folder else 'a folder is missing')
      )
    seen.add(part)
    if equals and part not in models.PARTS:
      raise settings.UserError(
        f'init_from={config.init_from!r}: {part!r} is no part of a model; use '
        f'one of {", ".join(models.PARTS)}, or a folder alone for the whole'
      )
    if not part and ',' in config.init_from:
      raise settings.UserError(
        f'init_from={config.init_from!r}: of several folders each needs its '
        'part, such as image=FOLDER,text=FOLDER'
      )
    yield part, _open(_users(hub.find, folder))


@functools.lru_cache(maxsize=8)
def _open(folder: Path) -> _Source:
  if rebuild.is_run(folder):
    return _of_run(folder)
  return _users(_of_published, folder)


def _of_run(folder: Path) -> _Source:
  run = rebuild.load(folder)
  kept = folder / FOLDER
  names = {name for of in _DATA.values() for name in of}
  data = {name: run.config.data[name] for name in names}
  data['tokenizer'] = str(folder / 'tokenizer.json')
  return _Source(
    folder=folder,
    module=run.module,
    data=data,
    shapes=jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), run.params
    ),
    read=lambda shapes: jax.tree.map(
      lambda x, shape: jax.device_put(x, getattr(shape, 'sharding', None)),
      run.params,
      shapes,
    ),
    files={
      file.relative_to(kept).as_posix(): file.read_bytes()
      for file in kept.rglob('*')
      if file.is_file()
    },
  )


def _of_published(folder: Path) -> _Source:
  config, small, source = checkpoint.read_folder(folder)
  family = checkpoint.family_of(config)
  module = family.module(config, jnp.float32)
  data: dict[str, Any] = {}
  note = ''
  defaults = family.Model.image_defaults
  if defaults and _found(module, 'image'):
    given = json.loads(small.get(base.PREPROCESSOR, b'{}'))
    prepares = preprocess.ImagePreprocessor.from_config(given, defaults)
    size, edge = prepares.crop_size or prepares.size, prepares.shortest_edge
    # Theirs are of scaled pixels, ours of pixels in [0, 1].
    scale = np.full(3, 255 * prepares.rescale_factor)
    data = {
      'image_size': size,
      'resize': 'crop' if edge else 'stretch',
      'mean': tuple((prepares.mean / scale).tolist()),
      'std': tuple((prepares.std / scale).tolist()),
    }
    before = edge or prepares.size
    if before not in (size, *size):
      note = (
        f'training resizes pictures to {size} at once, where the published '
        f'preprocessing first makes {"their shorter side" if edge else "them"} '
        f'{before} and crops'
      )
  if base.TOKENIZER in small:
    data['tokenizer'] = str(folder / base.TOKENIZER)
    if isinstance(module, models.EncoderDecoder | models.TextToText):
      data['bos'] = module.bos_id  # Not what its tokenizer starts texts with.
  return _Source(
    folder=folder,
    module=module,
    data=data,
    shapes=checkpoint.shapes(module, family.inputs(config)),
    read=lambda shapes: keys.load(
      family.rules(config), source, shapes, skip=checkpoint.skipped(family)
    ),
    files={**small, checkpoint.CONFIG: json.dumps(config).encode()},
    note=note,
  )


def _part(source: _Source, part: str) -> tuple[nn.Module, str]:
  """A part of a source, and the path of its parameters, with its slash."""
  if not part:
    return _whole(source), ''
  found = _found(source.module, part)
  if found is None:
    raise settings.UserError(
      f'init_from: {source.folder} is a {type(source.module).__name__} without '
      f'{part}; {_has(source.module)}'
    )
  return found


def _found(module: nn.Module, part: str) -> tuple[nn.Module, str] | None:
  known = models.PARTS[part].values()
  if type(module) in known:
    return module, ''  # A tower that was published alone.
  # An `encoder` is what a classifier, or a T5, has.
  for name in (part, _ALSO.get(part, part), 'encoder'):
    held = getattr(module, name, None)
    if type(held) in known:
      return held, f'{name}/'
  return None


def _has(module: nn.Module) -> str:
  parts = [part for part in models.PARTS if _found(module, part)]
  return f'it has {", ".join(parts) or "no parts"}'


def _whole(source: _Source) -> nn.Module:
  """The module of a source, as one that can be trained."""
  module = source.module
  can = type(module) in models.MODELS.values()
  if isinstance(module, models.VisionLanguage):
    can = _found(module, 'vision') is not None and module.encoder is None
    module = module.clone(placeholders=())
  if not can:
    raise settings.UserError(
      f'init_from: {source.folder} is a {type(module).__name__}, of a kind '
      'that is not trained as a whole; start from a part, as in image=FOLDER: '
      f'{_has(source.module)}'
    )
  return module


def _data(
  config: Any, source: _Source, parts: str | Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
  """The data settings that come with a part, or with all that a model has."""
  for part, names in _DATA.items():
    if part not in ([parts] if isinstance(parts, str) else parts):
      continue
    for name in names:
      if name in source.data:
        yield name, source.data[name]
    module, _ = _part(source, part)
    most = getattr(module, 'max_length', None)
    for name in _LENGTHS.get(part, ()) if most else ():
      padded = getattr(module, 'reads_padding', False)
      yield name, most if padded else min(config.data[name], most)


def _users(function: Callable[..., Any], *args: Any) -> Any:
  """Calls a function whose errors are about what the user gave."""
  try:
    return function(*args)
  except (ValueError, OSError, ImportError) as error:
    raise settings.UserError(f'init_from: {error}') from error
