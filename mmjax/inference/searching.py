"""Finds the values of an index that are nearest to a query."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data import contact_sheet, images
from mmjax.errors import ConfigError
from mmjax.inference import encoders, inputs
from mmjax.inference import index as index_lib
from mmjax.inference import opened as opened_lib


@dataclasses.dataclass(frozen=True)
class Match:
  """A value that was found.

  Attributes:
    name: its name in the index.
    cosine: cosine of its embedding and the query's.
  """

  name: str
  cosine: float


def check_index(
  found: index_lib.Index, model: opened_lib.Opened, path: Path
) -> None:
  """Refuses an index of another model.

  Raises:
    ConfigError: naming both models.
  """
  if found.checksum != model.checksum:
    raise ConfigError(
      f'{path} was made by {found.model!r}, whose weights are not those of '
      f'{model.describe()!r}; search with that model, or embed again with this'
    )


def search(
  found: index_lib.Index,
  model: opened_lib.Opened,
  kind: str,
  query: Any,
  *,
  top: int,
  feature: str = '',
) -> list[Match]:
  """The values of an index nearest to a query, the nearest first.

  Args:
    found: an index of the same model.
    model: the model.
    kind: kind of the query.
    query: text, or path of a file.
    top: number of values, at least 1.
    feature: the model's feature that encodes the query; '' for the only one of
      the kind.

  Raises:
    ConfigError: if the query can't be read or encoded, or the index has
      vectors of another width.
  """
  encoder = encoders.choose_encoder(model, kind, feature)
  vector = encoder.encode([encoder.prepare(query)])[0].astype(np.float32)
  width = found.embeddings.shape[1]
  if len(vector) != width:
    raise ConfigError(
      f'the query has {len(vector)} numbers, the embeddings of the index '
      f'{width}; embed again with the same model'
    )
  norms = np.linalg.norm(found.embeddings, axis=1) * np.linalg.norm(vector)
  cosines = found.embeddings @ vector / np.maximum(norms, 1e-12)
  best = np.argsort(-cosines, kind='stable')[:top]
  return [Match(found.names[i], float(cosines[i])) for i in best]


def render(
  found: index_lib.Index, matches: Sequence[Match], title: str
) -> Image.Image:
  """A contact sheet of what was found, with names and cosines.

  Values that are no longer where they were embedded have no image.
  """
  get = inputs.open_origin(found.origin)
  cells = []
  missing = 0
  for match in matches:
    image = None
    if get is not None and found.kind == 'image':
      image = _read(get, match.name)
      missing += image is None
    cells.append((image, [f'{match.cosine:.3f}', match.name]))
  if missing:
    print(
      f'{missing} of {len(matches)} images are no longer in '
      f'{found.origin.get("folder") or found.origin.get("data")}',
      file=sys.stderr,
    )
  return contact_sheet.render(cells, columns=5, title=title)


def _read(get: Callable[[str], Any], name: str) -> np.ndarray | None:
  try:
    value = get(name)
    return (
      images.decode(value)
      if isinstance(value, bytes)
      else (images.to_array(value))
    )
  except (ConfigError, OSError, KeyError):
    return None
