"""How one tensor lies in a checkpoint and in a parameter; both ways."""

import dataclasses
import math
from typing import Protocol

import numpy as np


class Form(Protocol):
  """How a tensor lies there and here; shapes are without the layers' axis."""

  def theirs(self, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Their shape of a parameter of our `shape`."""

  def load(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Their array as ours, of `shape`."""

  def save(self, array: np.ndarray) -> np.ndarray:
    """Our array as theirs."""


@dataclasses.dataclass(frozen=True)
class Same:
  """The same numbers in the same order.

  Attributes:
    flat: whether theirs has one axis, whatever ours has.
  """

  flat: bool = False

  def theirs(self, shape):
    return (math.prod(shape),) if self.flat else shape

  def load(self, array, shape):
    return array.reshape(shape)

  def save(self, array):
    return array.reshape(self.theirs(array.shape))


@dataclasses.dataclass(frozen=True)
class Linear:
  """A matrix product: theirs is [out, in], ours [in..., out...].

  Attributes:
    inputs: how many of our axes are `in`.
    transposed: whether theirs is so; otherwise it is [in, out] (GPT-2).
  """

  inputs: int = 1
  transposed: bool = True

  def theirs(self, shape):
    sizes = math.prod(shape[: self.inputs]), math.prod(shape[self.inputs :])
    return sizes[::-1] if self.transposed else sizes

  def load(self, array, shape):
    return (array.T if self.transposed else array).reshape(shape)

  def save(self, array):
    theirs = self.theirs(array.shape)
    if not self.transposed:
      return array.reshape(theirs)
    return array.reshape(theirs[::-1]).T


@dataclasses.dataclass(frozen=True)
class Patches:
  """A convolution whose stride is its size: theirs is [D, C, p, p].

  Ours is [p * p * C, D]. Over f frames, theirs is [D, C, f, p, p] and ours
  [f * p * p * C, D].

  Attributes:
    size: p.
    frames: f; None for pictures.
  """

  size: int
  frames: int | None = None

  def theirs(self, shape):
    sizes = self._sizes()
    return (shape[1], shape[0] // math.prod(sizes), *sizes)

  def load(self, array, shape):
    return np.moveaxis(array, (0, 1), (-1, -2)).reshape(shape)

  def save(self, array):
    out, channels, *sizes = self.theirs(array.shape)
    array = array.reshape(*sizes, channels, out)
    return np.moveaxis(array, (-1, -2), (0, 1))

  def _sizes(self) -> tuple[int, ...]:
    sizes = (self.size, self.size)
    return sizes if self.frames is None else (self.frames, *sizes)


@dataclasses.dataclass(frozen=True)
class Convolution:
  """A convolution: theirs is [out, in, sizes...], ours [sizes..., in, out]."""

  def theirs(self, shape):
    *sizes, inputs, outputs = shape
    return (outputs, inputs, *sizes)

  def load(self, array, shape):
    return np.moveaxis(array, (0, 1), (-1, -2)).reshape(shape)

  def save(self, array):
    return np.moveaxis(array, (-1, -2), (0, 1))


@dataclasses.dataclass(frozen=True)
class Folded:
  """A convolution over patches cut already: theirs is [D, *sizes].

  Ours is [prod(sizes), D].

  Attributes:
    sizes: channels, and what a patch has on each axis.
  """

  sizes: tuple[int, ...]

  def theirs(self, shape):
    return (shape[1], *self.sizes)

  def load(self, array, shape):
    return array.reshape(shape[::-1]).T

  def save(self, array):
    return array.T.reshape(self.theirs(array.shape))


@dataclasses.dataclass(frozen=True)
class Lead:
  """Theirs has one more axis, of length 1, in front."""

  def theirs(self, shape):
    return (1, *shape)

  def load(self, array, shape):
    return array.reshape(shape)

  def save(self, array):
    return array[None]


@dataclasses.dataclass(frozen=True)
class Part:
  """One of several parameters that lie in one tensor, along one axis.

  Attributes:
    index: which of them.
    number: how many there are; all have the same size.
    form: how each lies.
    axis: of the tensor.
  """

  index: int
  number: int
  form: Form
  axis: int = 0

  def theirs(self, shape):
    sizes = list(self.form.theirs(shape))
    sizes[self.axis] *= self.number
    return tuple(sizes)

  def load(self, array, shape):
    parts = np.split(array, self.number, axis=self.axis)
    return self.form.load(parts[self.index], shape)

  def save(self, array):
    return self.form.save(array)
