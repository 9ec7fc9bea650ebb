"""Tensors in Hugging Face folders: safetensors, read one at a time.

Nothing is ever unpickled.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import safetensors
import safetensors.numpy

from mmjax.data import git_pointers
from mmjax.errors import ConfigError
from mmjax.pretrained import configs, mismatches

FILE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
SHARD = 'model-{:05d}-of-{:05d}.safetensors'
# What the names of diffusers' files begin with, instead of 'model'.
DIFFUSERS = 'diffusion_pytorch_model'
# The files that open_clip writes instead of config.json.
OPEN_CLIP = ('open_clip_config.json', 'open_clip_model_config.json')
SHARD_BYTES = 5_000_000_000

# Endings of weights that are not read here.
_OTHER_ENDINGS = (
  *(
    '.safetensors',
    '.h5',
    '.msgpack',
    '.onnx',
    '.gguf',
    '.ckpt',
    '.pt',
    '.pth',
  ),
)


class Tensors:
  """The tensors of a folder, by name.

  The header of a file maps the names of duplicates, which are not stored, to
  the stored tensor; they are names too.

  Attributes:
    names: names of all tensors.
  """

  def __init__(self, folder: Path | str):
    """Opens a folder and reads its tables of contents.

    Raises:
      ConfigError: if there are no tensors or only pickles, a shard is missing,
        or a file is broken.
    """
    self._folder = Path(folder)
    self._index = _rename(INDEX, find_stem(self._folder))
    self._where: dict[str, str] = {}
    self._shapes: dict[str, tuple[int, ...]] = {}
    self._kept: dict[str, str] = {}
    for file, listed in _list_files(self._folder).items():
      with self._open(file) as tensor_file:
        stored = set(tensor_file.keys())
        for name in stored:
          self._shapes[name] = tuple(tensor_file.get_slice(name).get_shape())
        removed = {
          name: kept
          for name, kept in (tensor_file.metadata() or {}).items()
          if kept in stored and name not in stored
        }
      self._check(file, stored | removed.keys(), listed)
      # Tensors that the index doesn't list too: refused if left over.
      self._where |= dict.fromkeys(stored, file)
      self._kept |= removed
    # A duplicate of one shard may be stored in another.
    self._kept = {k: v for k, v in self._kept.items() if k not in self._where}
    self.names = frozenset({*self._where, *self._kept})

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of a tensor, without reading it."""
    return self._shapes[self.stored_name(name)]

  def read(self, name: str) -> np.ndarray:
    """Reads one tensor, in its stored type.

    Raises:
      ConfigError: if numpy has no such type.
    """
    name = self.stored_name(name)
    # An open file is memory-mapped: tensors read before would stay in memory.
    with self._open(self._where[name]) as file:
      try:
        return file.get_tensor(name)
      except (safetensors.SafetensorError, TypeError, AttributeError) as error:
        raise ConfigError(
          f'{self._folder / self._where[name]}: {name} cannot be read '
          f'({error}); save it as float32, float16 or bfloat16'
        ) from error

  def stored_name(self, name: str) -> str:
    """Name in the file of a tensor that has several names."""
    return self._kept.get(name, name)

  def _open(self, file: str):
    path = self._folder / file
    try:
      return safetensors.safe_open(path, framework='numpy')
    except safetensors.SafetensorError as error:
      with path.open('rb') as pointer:
        reason = git_pointers.explain(pointer.read(32))
      if reason:
        raise ConfigError(f'{path} is {reason}') from error
      raise ConfigError(
        f'{path} is broken or cut off ({error}); download it again'
      ) from error

  def _check(
    self, file: str, stored: set[str], listed: set[str] | None
  ) -> None:
    missing = sorted((listed or stored) - stored)
    if missing:
      raise ConfigError(
        f'{self._folder / self._index} says that {file} holds '
        f'{mismatches.shorten(missing)}, but it does not; download both again'
      )
    duplicates = sorted(stored & self._where.keys())
    if duplicates:
      raise ConfigError(
        f'{self._folder / file} holds {mismatches.shorten(duplicates)}, which '
        'another shard holds too; download all of them again'
      )


def find_stem(folder: Path) -> str:
  """What the names of a folder's files begin with: 'model', or `DIFFUSERS`."""
  for stem in ('model', DIFFUSERS):
    if any((folder / _rename(name, stem)).exists() for name in (FILE, INDEX)):
      return stem
  return 'model'


def list_names() -> list[str]:
  """Names of files, one of which a folder with tensors has."""
  return [
    _rename(name, stem)
    for stem in ('model', DIFFUSERS)
    for name in (FILE, INDEX)
  ]


def _rename(name: str, stem: str) -> str:
  """`FILE`, `INDEX` or `SHARD` with another stem."""
  return stem + name.removeprefix('model')


def _list_files(folder: Path) -> dict[str, set[str] | None]:
  """Lists files, and their tensors by the index; None without an index."""
  file, index = (_rename(name, find_stem(folder)) for name in (FILE, INDEX))
  if (folder / index).exists():
    return _read_index(folder, index)
  if (folder / file).exists():
    return {file: None}
  pickles = sorted(path.name for path in folder.glob('*.bin'))
  if pickles:
    raise pickle_error(folder, pickles, folder)
  others = sorted(
    path.name for path in folder.iterdir() if path.suffix in _OTHER_ENDINGS
  )
  unread = (
    f'; {mismatches.shorten(others)} is not read, since its names or layout '
    'may be those of another library'
    if others
    else ''
  )
  raise ConfigError(
    f'{folder} has neither {FILE} nor {INDEX}{unread}; download the weights '
    'for transformers too'
  )


def _read_index(folder: Path, index: str) -> dict[str, set[str] | None]:
  path = folder / index
  listed = configs.read(path).get('weight_map')
  if (
    not isinstance(listed, dict)
    or not listed
    or not all(isinstance(file, str) for file in listed.values())
  ):
    raise ConfigError(
      f'{path}: weight_map does not name the file of each tensor; '
      'download it again'
    )
  files: dict[str, set[str] | None] = {}
  for name, file in listed.items():
    files.setdefault(file, set()).add(name)
  outside = sorted(file for file in files if not _is_inside(file))
  if outside:
    raise ConfigError(
      f'{path} names {mismatches.shorten(map(repr, outside))}; a '
      'shard has to be a .safetensors file inside the folder'
    )
  missing = sorted(file for file in files if not (folder / file).is_file())
  if missing:
    raise ConfigError(
      f'{path} names {mismatches.shorten(missing)}, which '
      f'{"are" if len(missing) > 1 else "is"} not there; download the missing '
      'shards'
    )
  return files


def _is_inside(file: str) -> bool:
  """Whether a file of the index is a .safetensors file inside the folder."""
  return (
    file.endswith('.safetensors')
    and file.isprintable()
    and not set(file) & set('\\:')
    and not set(file.split('/')) & {'', '.', '..'}
  )


def pickle_error(
  source: Path | str, pickles: Sequence[str], folder: Path
) -> ConfigError:
  """The error about a model whose weights are only in pickles.

  Args:
    source: folder or name of the model, as the user gave it.
    pickles: names of the files, with their subfolder.
    folder: folder of its config.json.
  """
  subfolder = PurePosixPath(pickles[0]).parent.as_posix()
  config = folder / subfolder / 'config.json'
  config_values = configs.read(config) if config.exists() else {}
  subfolder_argument = '' if subfolder == '.' else f', subfolder={subfolder!r}'
  kind = (config_values.get('architectures') or ['AutoModel'])[0]
  return ConfigError(
    f'{source} has its weights in {", ".join(pickles)}, which are pickles '
    'and can run any code, so mmjax never opens them. Where you trust their '
    f'source, convert them once with transformers: {kind}.from_pretrained('
    f'{str(source)!r}{subfolder_argument}).save_pretrained(OUT), and copy the '
    'tokenizer and preprocessor files'
  )


def open_clip_error(source: Path | str, config: str) -> ConfigError:
  """The error about a model in the format of open_clip alone.

  Args:
    source: folder or name of the model, as the user gave it.
    config: name of its config, one of `OPEN_CLIP`.
  """
  return ConfigError(
    f'{source} has {config} but no config.json: it is laid out as open_clip '
    'does, whose names of weights mmjax does not read. Take the folder of the '
    'same model for transformers (config.json and model.safetensors, on the '
    'hub often of the same repository), or bring its weights to the names of '
    'CLIPModel or SiglipModel and write them with save_pretrained(OUT)'
  )


def save_file(tensors: Mapping[str, np.ndarray], path: Path) -> None:
  """Writes one file, readable by whom the umask says, as other files are."""
  safetensors.numpy.save_file(dict(tensors), path, {'format': 'pt'})
  umask = os.umask(0)
  os.umask(umask)
  path.chmod(0o666 & ~umask)


def write(
  folder: Path | str,
  tensors: Iterable[tuple[str, np.ndarray]],
  shard_bytes: int = SHARD_BYTES,
  stem: str = 'model',
) -> None:
  """Writes tensors to a folder, in several files if they are large.

  Args:
    folder: path of the folder, which is made if it does not exist; tensors in
      it are replaced.
    tensors: names and arrays, consumed one at a time.
    shard_bytes: largest size of a file, unless one tensor alone is larger.
    stem: what the names of files begin with.
  """
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  shards, size, total = [{}], 0, 0
  drafts: list[Path] = []

  def flush() -> None:
    drafts.append(folder / f'{len(drafts)}.draft')
    save_file(shards[-1], drafts[-1])
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
  file, index, shard = (_rename(name, stem) for name in (FILE, INDEX, SHARD))
  for old in (file, index, f'{stem}-*-of-*.safetensors'):
    for path in folder.glob(old):
      path.unlink()
  if len(drafts) == 1:
    drafts[0].rename(folder / file)
    return
  where = {}
  for i, (draft, names) in enumerate(zip(drafts, shards, strict=True)):
    file = shard.format(i + 1, len(drafts))
    draft.rename(folder / file)
    where |= dict.fromkeys(names, file)
  listed = {'metadata': {'total_size': total}, 'weight_map': where}
  (folder / index).write_text(json.dumps(listed, indent=2, sort_keys=True))
