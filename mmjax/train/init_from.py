"""Starting a run from trained weights: a published model's, or another run's.

  --config.init_from=FOLDER                         the whole model
  --config.init_from=image=FOLDER                   its image tower alone
  --config.init_from=vision=FOLDER,decoder=FOLDER2  parts from two places

The architecture comes with the weights: the config's `model` section, or that
part of it, becomes theirs, and so do the settings of `data` that they were
trained with. What only concerns training stays the config's: dropout,
stochastic depth, rematerialisation; and whether a text encoder or decoder has
cross-attention, which is new where the source has none. A folder may also be a
model's name on the Hugging Face hub.

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
from mmjax.train import checkpoints, progress, rebuild, settings
from mmjax.types import Params

# In a run's folder: what belongs to the published model that it began from.
FOLDER = 'pretrained'
# What a config may say of a module whose weights it takes.
_TRAINING = ('dropout', 'word_dropout', 'drop_path', 'remat')
_RATES = ('dropout', 'attention_dropout')  # Of a `block`.
_IMAGE = ('image_size', 'resize', 'mean', 'std')
# Settings of `data` that come with a part, and the lengths of what it reads.
_DATA = {
  'image': _IMAGE,
  'vision': _IMAGE,
  'text': ('tokenizer',),
  'question': ('tokenizer',),
  'encoder': ('tokenizer',),
  'decoder': ('tokenizer', 'bos'),
}
_LENGTHS = {
  'text': ('text_length',),
  'question': ('question_length',),
  'encoder': ('question_length',),
  'decoder': ('text_length', 'answer_length'),
}
# Parts that look at a context where the config says so, and by default.
_CROSSING = {'text': False, 'question': False, 'decoder': True}
# Where a source may have a part, but under its own name.
_ALSO = {
  'image': 'vision',
  'vision': 'image',
  'question': 'text',
  'encoder': 'text',
}


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
  places: dict[str, Path] = {}
  for part, source in _sources(config):
    module, _ = _part(source, part)
    described = _users(models.describe, module)
    given = config.model.get(part) if part else config.model
    _keep(described, given)
    if part in _CROSSING and 'cross_attention' in models.settings_of(
      described['name']
    ):
      described['cross_attention'] = (given or {}).get(
        'cross_attention', _CROSSING[part]
      )
    with config.unlocked(), config.ignore_type():
      if part:
        config.model[part] = described
      else:
        config.model = described
      for name, value in _data(config, source, part or described):
        if not _agree(name, value, told.get(f'data.{name}', value)):
          raise settings.UserError(
            f'init_from={config.init_from!r}: data.{name} is {value!r} for '
            f'{source.folder}, but {told[f"data.{name}"]!r} for '
            f'{places[name]}; start from parts that agree'
          )
        config.data[name] = value
        told[f'data.{name}'], places[name] = value, source.folder
    if source.note:
      progress.tell(f'init_from: {source.note}')
  listed = ', '.join(f'{name}={value!r}' for name, value in told.items())
  progress.tell(f'init_from sets the model and {listed}')
  return config


def _agree(name: str, one: Any, other: Any) -> bool:
  """Whether two parts can share a setting of `data`."""
  if name.endswith('_length'):
    return True  # The latter is already the least.
  if name == 'tokenizer':
    return Path(one).read_bytes() == Path(other).read_bytes()
  return one == other


def _keep(described: dict[str, Any], given: Mapping[str, Any] | None) -> None:
  """Keeps what the config says of training, in a module and its parts."""
  given = given or {}
  for name in _TRAINING:
    described.pop(name, None)
    if name in given and name in models.settings_of(described['name']):
      described[name] = given[name]
  own, block = described.get('block') or {}, given.get('block') or {}
  if not isinstance(own, str):  # A ResNet's is the name of a kind.
    rates = {k: block[k] for k in _RATES if k in block}
    own = {k: v for k, v in own.items() if k not in _RATES} | rates
    described.pop('block', None)
    if own and 'block' in models.settings_of(described['name']):
      described['block'] = own
  for part in models.PARTS:
    if part in described:
      _keep(described[part], given.get(part))


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
  for part, source, pairs in _pairs(config, wanted):
    shapes = keys.flat(source.shapes)
    wrong += [
      f'{ours}: {list(wanted[ours].shape)} in the model, '
      f'{list(shapes[theirs].shape)} in {source.folder}'
      if ours in wanted
      else f'{ours}: the model has no such parameter'
      for theirs, ours in pairs.items()
      if ours not in wanted or wanted[ours].shape != shapes[theirs].shape
    ]
    if wrong:
      continue
    chosen = keys.tree({theirs: wanted[ours] for theirs, ours in pairs.items()})
    read = keys.flat(_users(source.read, chosen))
    found |= {ours: read[theirs] for theirs, ours in pairs.items()}
    below = f'{part}/' if part else ''
    new = [p for p in wanted if p.startswith(below) and p not in found]
    if new:
      listed = ', '.join(new[:3]) + (', ...' if new[3:] else '')
      progress.tell(
        f'init_from: {len(new)} parameters that {source.folder} does not have '
        f'are new: {listed}'
      )
  if wrong:
    raise settings.UserError(
      f'init_from={config.init_from!r} does not fit:\n  ' + '\n  '.join(wrong)
    )
  return found


def _pairs(
  config: Any, wanted: Mapping[str, Any]
) -> Iterator[tuple[str, _Source, dict[str, str]]]:
  """Of each part, the paths in its source, and those in the model."""
  for part, source in _sources(config):
    _, inside = _part(source, part)
    below = f'{part}/' if part else ''
    theirs = keys.flat(source.shapes)
    pairs = {
      path: below + path.removeprefix(inside)
      for path in theirs
      if path.startswith(inside)
    }
    if not pairs:
      raise settings.UserError(
        f'init_from: {source.folder} is a run that trained no {part}, so it '
        'has no parameters for one'
      )
    table = 'words/table/embedding'
    lacks = f'{below}{table}' not in pairs.values()
    if part in ('text', 'question') and lacks and f'decoder/{table}' in theirs:
      # The encoder of a T5 reads the vectors of its decoder.
      pairs[f'decoder/{table}'] = f'{below}{table}'
    crosses = part not in _CROSSING or config.model[part].get('cross_attention')
    # What the run does without: a blind twin's eyes, a tower's cross-attention.
    spared = [
      path
      for path, own in pairs.items()
      if own not in wanted
      and (config.data.blind or ('cross_attention' in path and not crosses))
    ]
    yield part, source, {p: o for p, o in pairs.items() if p not in spared}


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
  lengths = {name for of in _LENGTHS.values() for name in of}
  data = {name: run.config.data[name] for name in names | lengths}
  data['tokenizer'] = str(folder / 'tokenizer.json')

  def read(shapes: Params) -> Params:
    # Anew each time: the arrays become those of a state, which gives them up.
    held, wanted = keys.flat(checkpoints.load_params(folder)), keys.flat(shapes)
    return keys.tree(
      {
        path: jax.device_put(held[path], getattr(place, 'sharding', None))
        for path, place in wanted.items()
      }
    )

  return _Source(
    folder=folder,
    module=run.module,
    data=data,
    shapes=jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), run.params
    ),
    read=read,
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
  if family.Model.image_defaults and _found(module, 'image'):
    prepares = family.Model.preprocessor(base.image_settings(small))
    data, note = _pictures(getattr(prepares, 'pixels', prepares))
  if base.TOKENIZER in small:
    data['tokenizer'] = str(folder / base.TOKENIZER)
    reads = getattr(module, 'encoder', None) is not None
    if isinstance(module, models.EncoderDecoder) or (
      reads and hasattr(module, 'bos_id')
    ):
      data['bos'] = module.bos_id  # Not what its tokenizer starts texts with.

  def read(shapes: Params) -> Params:
    # Of a part alone, what belongs to others is left where it is.
    wanted = keys.flat(shapes)
    rules = [r for r in family.rules(config) if r.ours in wanted]
    whole = len(rules) == len(family.rules(config))
    skip = checkpoint.skipped(family) if whole else ('.*',)
    return keys.load(rules, source, shapes, skip=skip)

  return _Source(
    folder=folder,
    module=module,
    data=data,
    shapes=checkpoint.shapes(module, family.inputs(config)),
    read=read,
    files={**small, checkpoint.CONFIG: json.dumps(config).encode()},
    note=note,
  )


def _pictures(
  prepares: preprocess.ImagePreprocessor,
) -> tuple[dict[str, Any], str]:
  """Our settings of a published preprocessing, and how they differ."""
  # Theirs are of scaled pixels, ours of pixels in [0, 1].
  scale = np.full(3, 255 * prepares.rescale_factor)
  data: dict[str, Any] = {
    'mean': tuple((prepares.mean / scale).tolist()),
    'std': tuple((prepares.std / scale).tolist()),
  }
  edge = prepares.shortest_edge
  size = prepares.crop_size or prepares.size or ((edge, edge) if edge else None)
  if size is None:
    return data, (
      'training makes all pictures of one size, data.image_size, which the '
      'published preprocessing does not'
    )
  data |= {'image_size': size, 'resize': 'crop' if edge else 'stretch'}
  before = edge or prepares.size
  if edge and not prepares.crop_size:
    return data, f'training crops to {size}; the published preprocessing not'
  if before in (None, size, *size):
    return data, ''
  return data, (
    f'training resizes pictures to {size} at once, where the published '
    f'preprocessing first makes {"their shorter side" if edge else "them"} '
    f'{before} and crops'
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
    can = _found(module, 'vision') is not None
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
