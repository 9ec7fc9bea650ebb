"""Tensors in Hugging Face folders: safetensors, read one at a time.

Nothing is ever unpickled.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from mmjax.pretrained import configs

FILE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
SHARD = 'model-{:05d}-of-{:05d}.safetensors'
SHARD_BYTES = 5_000_000_000


class Tensors:
  """What a folder holds, by name.

  Attributes:
    names: of all tensors.
  """

  def __init__(self, folder: Path | str):
    """Opens a folder and reads its tables of contents.

    Raises:
      FileNotFoundError: if there are no tensors, or a shard is missing.
      ValueError: if there are only pickles, or a file is broken.
    """
    self._folder = Path(folder)
    self._where: dict[str, str] = {}
    self._shapes: dict[str, tuple[int, ...]] = {}
    for file, listed in _contents(self._folder).items():
      with self._open(file) as held:
        there = set(held.keys())
        for name in there:
          self._shapes[name] = tuple(held.get_slice(name).get_shape())
      absent = sorted((listed or there) - there)
      if absent:
        raise ValueError(
          f'{self._folder / INDEX} says that {file} holds {", ".join(absent)}, '
          'but it does not; download both anew'
        )
      twice = sorted(there & self._where.keys())
      if twice:
        raise ValueError(
          f'{self._folder / file} holds {", ".join(twice)}, which another '
          'shard holds too; download all of them anew'
        )
      # Also what the index doesn't list: it is refused where nothing reads it.
      self._where |= dict.fromkeys(there, file)
    self.names = frozenset(self._where)

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of a tensor, without reading it."""
    return self._shapes[name]

  def read(self, name: str) -> np.ndarray:
    """One tensor, in the type that it is stored in."""
    # An open file is mapped: what was read of it would stay in memory.
    with self._open(self._where[name]) as file:
      return file.get_tensor(name)

  def _open(self, file: str):
    path = self._folder / file
    try:
      return safetensors.safe_open(path, framework='numpy')
    except safetensors.SafetensorError as error:
      raise ValueError(
        f'{path} is broken or cut off ({error}); download it anew'
      ) from error


class Renamed:
  """Tensors under the names that a newer release of their family has."""

  def __init__(self, tensors: Tensors, aliases: Sequence[tuple[str, str]]):
    """Takes tensors, and patterns and what their matches become, in order.

    Only what a pattern matches at the beginning of a name is replaced.
    """
    self._tensors = tensors
    self._names = {}
    for old in tensors.names:
      name = old
      for pattern, new in aliases:
        name = re.sub(f'^(?:{pattern})', new, name)
      self._names[name] = old
    self.names = frozenset(self._names)

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of a tensor, without reading it."""
    return self._tensors.shape(self._names[name])

  def read(self, name: str) -> np.ndarray:
    """One tensor, in the type that it is stored in."""
    return self._tensors.read(self._names[name])


def _contents(folder: Path) -> dict[str, set[str] | None]:
  """Files, and the tensors that an index lists for each; None without one."""
  if (folder / INDEX).exists():
    files: dict[str, set[str] | None] = {}
    listed = configs.read(folder / INDEX).get('weight_map')
    if not isinstance(listed, dict) or not all(
      isinstance(file, str) for file in listed.values()
    ):
      raise ValueError(
        f'{folder / INDEX}: weight_map does not name the file of each tensor; '
        'download it anew'
      )
    for name, file in listed.items():
      files.setdefault(file, set()).add(name)
    absent = sorted(file for file in files if not (folder / file).exists())
    if absent:
      raise FileNotFoundError(
        f'{folder / INDEX} names {", ".join(absent)}, which is not there; '
        'download the missing shards'
      )
    return files
  if (folder / FILE).exists():
    return {FILE: None}
  pickles = sorted(path.name for path in folder.glob('*.bin'))
  if pickles:
    raise pickled(folder, pickles, folder)
  raise FileNotFoundError(
    f'{folder} has neither {FILE} nor {INDEX}; download the weights too'
  )


def pickled(
  source: Path | str, pickles: Sequence[str], folder: Path
) -> ValueError:
  """The error where a model has its weights in pickles alone.

  Args:
    source: where the user said that it is.
    pickles: names of the files.
    folder: where its config.json is.
  """
  config = folder / 'config.json'
  named = configs.read(config) if config.exists() else {}
  kind = (named.get('architectures') or ['AutoModel'])[0]
  return ValueError(
    f'{source} has its weights in {", ".join(pickles)}, which are pickles '
    'and can run any code, so mmjax never opens them. Where you trust their '
    f'source, convert them once with transformers: {kind}.from_pretrained('
    f'{str(source)!r}).save_pretrained(OUT), and copy the tokenizer and '
    'preprocessor files'
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
