"""Files of embeddings: .npz or .parquet, with what made them."""

import dataclasses
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from mmjax.errors import ConfigError

# What reading a broken file may raise.
_BROKEN = (
  EOFError,
  KeyError,
  OSError,
  TypeError,
  ValueError,
  zipfile.BadZipFile,
)
SUFFIXES = ('.npz', '.parquet')
_KEY = 'mmjax'  # Of the description, in both kinds of files.


@dataclasses.dataclass(frozen=True)
class Index:
  """Embeddings of named values.

  Attributes:
    names: names of each value: path, text, or id of a record.
    embeddings: float32 [N, E], as the model returns them.
    model: name of the model.
    checksum: checksum of its weights.
    kind: kind of the values.
    feature: feature of the model that encoded them.
    normalised: whether the embeddings are unit vectors.
    origin: where the values are, see `inputs.Items`.
  """

  names: Sequence[str]
  embeddings: np.ndarray
  model: str
  checksum: int
  kind: str
  feature: str
  normalised: bool
  origin: Mapping[str, Any]

  def describe(self) -> dict[str, Any]:
    """All but names and embeddings, as JSON values."""
    return {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name not in ('names', 'embeddings')
    }


def check_path(path: Path) -> None:
  """Refuses a path that does not end like a file of embeddings.

  Raises:
    ConfigError: naming the legal endings.
  """
  if path.suffix not in SUFFIXES:
    raise ConfigError(
      f'{path} should end in {" or ".join(SUFFIXES)}, which says how '
      'embeddings are stored'
    )


def save(index: Index, path: Path) -> None:
  """Writes an index; the file appears once it is whole.

  A .npz has the arrays `names`, `embeddings`, `model`, `normalised`; a .parquet
  the columns `name` and `embedding`. Both have all else as JSON.
  """
  check_path(path)
  temporary = path.with_name(f'.{path.name}.partial')
  about = json.dumps(index.describe())
  if path.suffix == '.npz':
    with temporary.open('wb') as file:
      np.savez(
        file,
        names=np.asarray(index.names),
        embeddings=index.embeddings,
        model=np.asarray(index.model),
        normalised=np.asarray(index.normalised),
        **{_KEY: np.asarray(about)},
      )
  else:
    width = index.embeddings.shape[1]
    flat = pyarrow.array(np.ravel(index.embeddings), pyarrow.float32())
    columns = {
      'name': pyarrow.array(list(index.names), pyarrow.string()),
      'embedding': pyarrow.FixedSizeListArray.from_arrays(flat, width),
    }
    table = pyarrow.table(columns).replace_schema_metadata({_KEY: about})
    parquet.write_table(table, temporary)
  os.replace(temporary, path)


def load(path: Path) -> Index:
  """Reads what `save` wrote.

  Raises:
    ConfigError: if the file is missing, broken, or not an index.
  """
  check_path(path)
  if not path.is_file():
    raise ConfigError(f'there is no index {path}; write it with `mmjax embed`')
  try:
    names, embeddings, about = _read(path)
    described = json.loads(about)
    index = Index(names=names, embeddings=embeddings, **described)
  except (*_BROKEN, pyarrow.ArrowException):
    raise ConfigError(
      f'{path} is not a whole file of `mmjax embed`; embed again'
    ) from None
  if embeddings.ndim != 2 or len(embeddings) != len(names):
    raise ConfigError(
      f'{path} has {len(names)} names, but embeddings '
      f'{list(embeddings.shape)}; embed again'
    )
  return index


def _read(path: Path) -> tuple[list[str], np.ndarray, str]:
  if path.suffix == '.npz':
    with np.load(path, allow_pickle=False) as file:
      return file['names'].tolist(), file['embeddings'], str(file[_KEY])
  table = parquet.read_table(path)
  column = table['embedding'].combine_chunks()
  width = column.type.list_size
  embeddings = column.flatten().to_numpy().reshape(-1, width)
  return (
    table['name'].to_pylist(),
    embeddings,
    table.schema.metadata[_KEY.encode()].decode(),
  )
