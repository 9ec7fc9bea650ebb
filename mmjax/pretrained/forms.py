"""How a tensor is laid out in a checkpoint and in a parameter.

Each form converts in both directions."""

import dataclasses
import math
from typing import Protocol

import numpy as np


class Form(Protocol):
  """A layout of a tensor; shapes are without the axis of layers."""

  def theirs(self, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Their shape for our `shape`."""

  def load(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Converts their array to ours, of `shape`."""

  def save(self, array: np.ndarray) -> np.ndarray:
    """Converts our array to theirs."""


@dataclasses.dataclass(frozen=True)
class Same:
  """The same numbers in the same order.

  Attributes:
    flat: whether theirs has one axis, whatever the shape of ours.
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
    inputs: number of our axes that are `in`.
    transposed: whether theirs is [out, in]; otherwise it is [in, out] (GPT-2).
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
    size: p, side of a patch in pixels.
    frames: f, frames of a patch; None for images.
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
    sizes: number of channels, and the size of a patch on each axis.
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
class Trail:
  """Theirs has further axes, of length 1, at the end.

  Attributes:
    number: number of these axes.
  """

  number: int

  def theirs(self, shape):
    return (*shape, *(1,) * self.number)

  def load(self, array, shape):
    return array.reshape(shape)

  def save(self, array):
    return array.reshape(self.theirs(array.shape))


@dataclasses.dataclass(frozen=True)
class Part:
  """One of several parameters that are stored in one tensor, along one axis.

  Attributes:
    index: index of this parameter among them.
    number: number of parameters, all of the same size.
    form: layout of each.
    axis: axis of the tensor along which they are concatenated.
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


@dataclasses.dataclass(frozen=True)
class SwappedHalves:
  """The second half of theirs, along its first axis, is the first of ours.

  Attributes:
    form: layout but for that.
  """

  form: Form

  def theirs(self, shape):
    return self.form.theirs(shape)

  def load(self, array, shape):
    return self.form.load(self._swap(array), shape)

  def save(self, array):
    return self._swap(self.form.save(array))

  def _swap(self, array):
    return np.roll(array, len(array) // 2, axis=0)


@dataclasses.dataclass(frozen=True)
class Pointwise:
  """A matrix product as a convolution: theirs is [out, in, 1, 1].

  Attributes:
    form: layout of the matrix.
  """

  form: Linear

  def theirs(self, shape):
    return (*self.form.theirs(shape), 1, 1)

  def load(self, array, shape):
    return self.form.load(array[:, :, 0, 0], shape)

  def save(self, array):
    return self.form.save(array)[:, :, None, None]
