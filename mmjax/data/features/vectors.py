"""Features whose array is a unit vector that a library computes."""

import dataclasses
import importlib
from typing import ClassVar

import numpy as np

from mmjax.data.features import base
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitVector(base.Feature):
  """A vector of unit length. The array is float32 [D], its mask bool [].

  Encoders of vectors read it. The cosine of two of them is their product.
  Making the feature imports its library, so that a run without it is refused
  before any data is read.

  Attributes:
    library: module that computes the vector.
    package: name of the library on PyPI, one of the extra `classical`.
  """

  library: ClassVar[str] = ''
  package: ClassVar[str] = ''

  def __post_init__(self):
    super().__post_init__()
    self._import_library()

  @property
  def encoded_as(self) -> str:
    return 'vector'

  @property
  def width(self) -> int:
    """D."""
    raise NotImplementedError

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return {
      self.name: np.zeros(self.width, np.float32),
      f'{self.name}_mask': np.bool_(False),
    }

  def _import_library(self, library: str = '', package: str = ''):
    """Imports the module `library`, or another one of the extra.

    Args:
      library: name of the other module.
      package: name of its package on PyPI.

    Raises:
      ConfigError: if it is not installed, with the extra that installs it.
    """
    try:
      return importlib.import_module(library or self.library)
    except ImportError as error:
      raise ConfigError(
        f'data.features.{self.name}.kind={self.kind!r} needs the package '
        f"{package or self.package}: pip install 'mmjax[classical]' ({error})"
      ) from error

  def _make_unit(self, vector: np.ndarray) -> base.Example:
    """Scales a vector [D] to unit length; zeros stay zeros."""
    length = np.linalg.norm(vector)
    return {
      self.name: (vector / (length or 1.0)).astype(np.float32),
      f'{self.name}_mask': np.bool_(True),
    }
