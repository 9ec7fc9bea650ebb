"""Tensors in Hugging Face folders: safetensors, read one at a time.

Nothing is ever unpickled.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import safetensors
import safetensors.numpy

from mmjax.errors import ConfigError
from mmjax.pretrained import configs, mismatches

FILE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
SHARD = 'model-{:05d}-of-{:05d}.safetensors'
# What open_clip writes where transformers writes config.json.
OPEN_CLIP = ('open_clip_config.json', 'open_clip_model_config.json')
SHARD_BYTES = 5_000_000_000


class Tensors:
  """What a folder holds, by name.

  A file without duplicates says in its header which names were left out, and
  which tensor each of them is; those are names too.

  Attributes:
    names: of all tensors.
  """

  def __init__(self, folder: Path | str):
    """Opens a folder and reads its tables of contents.

    Raises:
      ConfigError: if there are no tensors or only pickles, a shard is missing,
        or a file is broken.
    """
    self._folder = Path(folder)
    self._where: dict[str, str] = {}
    self._shapes: dict[str, tuple[int, ...]] = {}
    self._kept: dict[str, str] = {}
    for file, listed in _contents(self._folder).items():
      with self._open(file) as held:
        there = set(held.keys())
        for name in there:
          self._shapes[name] = tuple(held.get_slice(name).get_shape())
        removed = {
          name: kept
          for name, kept in (held.metadata() or {}).items()
          if kept in there and name not in there
        }
      self._check(file, there | removed.keys(), listed)
      # Also what the index doesn't list: it is refused where nothing reads it.
      self._where |= dict.fromkeys(there, file)
      self._kept |= removed
    # What one shard leaves out may be in another.
    self._kept = {k: v for k, v in self._kept.items() if k not in self._where}
    self.names = frozenset({*self._where, *self._kept})

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of a tensor, without reading it."""
    return self._shapes[self.stored(name)]

  def read(self, name: str) -> np.ndarray:
    """One tensor, in the type that it is stored in.

    Raises:
      ConfigError: if numpy has no such type.
    """
    name = self.stored(name)
    # An open file is mapped: what was read of it would stay in memory.
    with self._open(self._where[name]) as file:
      try:
        return file.get_tensor(name)
      except (safetensors.SafetensorError, TypeError, AttributeError) as error:
        raise ConfigError(
          f'{self._folder / self._where[name]}: {name} cannot be read '
          f'({error}); save it as float32, float16 or bfloat16'
        ) from error

  def stored(self, name: str) -> str:
    """The name in the file, where a tensor has several."""
    return self._kept.get(name, name)

  def _open(self, file: str):
    path = self._folder / file
    try:
      return safetensors.safe_open(path, framework='numpy')
    except safetensors.SafetensorError as error:
      raise ConfigError(
        f'{path} is broken or cut off ({error}); download it again'
      ) from error

  def _check(self, file: str, there: set[str], listed: set[str] | None) -> None:
    absent = sorted((listed or there) - there)
    if absent:
      raise ConfigError(
        f'{self._folder / INDEX} says that {file} holds '
        f'{mismatches.few(absent)}, but it does not; download both again'
      )
    twice = sorted(there & self._where.keys())
    if twice:
      raise ConfigError(
        f'{self._folder / file} holds {mismatches.few(twice)}, which another '
        'shard holds too; download all of them again'
      )


def _contents(folder: Path) -> dict[str, set[str] | None]:
  """Files, and the tensors that an index lists for each; None without one."""
  if (folder / INDEX).exists():
    return _indexed(folder)
  if (folder / FILE).exists():
    return {FILE: None}
  pickles = sorted(path.name for path in folder.glob('*.bin'))
  if pickles:
    raise pickled(folder, pickles, folder)
  others = sorted(path.name for path in folder.glob('*.safetensors'))
  unread = (
    f'; {mismatches.few(others)} is not read, since its names or layout may be '
    'those of another library'
    if others
    else ''
  )
  raise ConfigError(
    f'{folder} has neither {FILE} nor {INDEX}{unread}; download the weights '
    'for transformers too'
  )


def _indexed(folder: Path) -> dict[str, set[str] | None]:
  listed = configs.read(folder / INDEX).get('weight_map')
  if (
    not isinstance(listed, dict)
    or not listed
    or not all(isinstance(file, str) for file in listed.values())
  ):
    raise ConfigError(
      f'{folder / INDEX}: weight_map does not name the file of each tensor; '
      'download it again'
    )
  files: dict[str, set[str] | None] = {}
  for name, file in listed.items():
    files.setdefault(file, set()).add(name)
  outside = sorted(file for file in files if not _is_inside(file))
  if outside:
    raise ConfigError(
      f'{folder / INDEX} names {mismatches.few(map(repr, outside))}; a shard '
      'has to be a .safetensors file inside the folder'
    )
  absent = sorted(file for file in files if not (folder / file).is_file())
  if absent:
    raise ConfigError(
      f'{folder / INDEX} names {mismatches.few(absent)}, which '
      f'{"are" if len(absent) > 1 else "is"} not there; download the missing '
      'shards'
    )
  return files


def _is_inside(file: str) -> bool:
  """Whether an index's entry is a file of the folder, or of one in it."""
  return (
    file.endswith('.safetensors')
    and file.isprintable()
    and not set(file) & set('\\:')
    and not set(file.split('/')) & {'', '.', '..'}
  )


def pickled(
  source: Path | str, pickles: Sequence[str], folder: Path
) -> ConfigError:
  """The error where a model has its weights in pickles alone.

  Args:
    source: where the user said that it is.
    pickles: names of the files, with the subfolder that they are in.
    folder: where its config.json is.
  """
  subfolder = PurePosixPath(pickles[0]).parent.as_posix()
  config = folder / subfolder / 'config.json'
  named = configs.read(config) if config.exists() else {}
  inside = '' if subfolder == '.' else f', subfolder={subfolder!r}'
  kind = (named.get('architectures') or ['AutoModel'])[0]
  return ConfigError(
    f'{source} has its weights in {", ".join(pickles)}, which are pickles '
    'and can run any code, so mmjax never opens them. Where you trust their '
    f'source, convert them once with transformers: {kind}.from_pretrained('
    f'{str(source)!r}{inside}).save_pretrained(OUT), and copy the tokenizer '
    'and preprocessor files'
  )


def of_open_clip(source: Path | str, config: str) -> ConfigError:
  """The error where a model is laid out as open_clip does alone.

  Args:
    source: where the user said that it is.
    config: the name of its config, one of `OPEN_CLIP`.
  """
  return ConfigError(
    f'{source} has {config} but no config.json: it is laid out as open_clip '
    'does, whose names of weights mmjax does not read. Take the folder of the '
    'same model for transformers (config.json and model.safetensors, on the '
    'hub often of the same repository), or bring its weights to the names of '
    'CLIPModel or SiglipModel and write them with save_pretrained(OUT)'
  )


def write(
  folder: Path | str,
  tensors: Iterable[tuple[str, np.ndarray]],
  shard_bytes: int = SHARD_BYTES,
) -> None:
  """Writes tensors into a folder, in several files if they are many.

  Args:
    folder: is made if it is not there; what it held of a model is replaced.
    tensors: names and arrays, taken one at a time.
    shard_bytes: what one file holds at most, unless one tensor alone is larger.
  """
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  shards, size, total = [{}], 0, 0
  drafts: list[Path] = []

  def flush() -> None:
    drafts.append(folder / f'{len(drafts)}.draft')
    safetensors.numpy.save_file(shards[-1], drafts[-1], {'format': 'pt'})
    shards[-1] = dict.fromkeys(shards[-1])  # The names are enough from here on.

  for name, array in tensors:
    array = np.asarray(array, order='C')
    if shards[-1] and size + array.nbytes > shard_bytes:
      flush()
      shards.append({})
      size = 0
    shards[-1][name] = array
    size, total = size + array.nbytes, total + array.nbytes
  flush()
  for old in (FILE, INDEX, 'model-*-of-*.safetensors'):
    for path in folder.glob(old):
      path.unlink()
  if len(drafts) == 1:
    drafts[0].rename(folder / FILE)
    return
  where = {}
  for i, (draft, names) in enumerate(zip(drafts, shards, strict=True)):
    file = SHARD.format(i + 1, len(drafts))
    draft.rename(folder / file)
    where |= dict.fromkeys(names, file)
  index = {'metadata': {'total_size': total}, 'weight_map': where}
  (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True))
