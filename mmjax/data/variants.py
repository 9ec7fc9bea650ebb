"""Training batches of several shapes, of which each has one."""

import dataclasses
import fractions
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mmjax.data import preprocess as preprocess_lib
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Variant:
  """What the training batches of one shape have in common.

  Attributes:
    preprocess: function (record, rng) that returns an example's arrays.
    scale: number of examples, as a multiple of `train.batch_size`.
    shapes: shapes without the batch axis of the arrays that differ between
      variants, by key.
  """

  preprocess: Callable[..., Mapping[str, Any]]
  scale: fractions.Fraction = fractions.Fraction(1)
  shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(
    default_factory=dict
  )

  def count_examples(self, batch_size: int, multiple: int) -> int:
    """Number of examples of a global batch.

    >>> Variant(dict, fractions.Fraction(256, 144)).count_examples(64, 8)
    112

    Args:
      batch_size: `train.batch_size`.
      multiple: what it is rounded down to a multiple of: the batch shards of
        the mesh times `train.accumulate`.
    """
    if self.scale == 1:
      return batch_size
    return math.floor(self.scale * batch_size) // multiple * multiple


def list_variants(
  preprocessor: preprocess_lib.Preprocessor,
) -> tuple[Variant, ...]:
  """Lists what training batches can be; () if all have one shape.

  Raises:
    ConfigError: if several features have variants.
  """
  variants = {n: f.list_variants() for n, f in preprocessor.features.items()}
  several = [name for name, found in variants.items() if len(found) > 1]
  if len(several) > 1:
    raise ConfigError(
      f'data.features.{several[0]} and data.features.{several[1]} both draw '
      'lengths for each batch; set `lengths` of one of them'
    )
  if not several:
    return ()
  (name,) = several
  forms = [
    dataclasses.replace(
      preprocessor, features={**preprocessor.features, name: feature}
    )
    for feature, _ in variants[name]
  ]
  shapes = [_find_shapes(form) for form in forms]
  differ = [key for key in shapes[0] if len({one[key] for one in shapes}) > 1]
  return tuple(
    Variant(form, scale, {key: own[key] for key in differ})
    for form, (_, scale), own in zip(forms, variants[name], shapes, strict=True)
  )


def _find_shapes(
  preprocessor: preprocess_lib.Preprocessor,
) -> dict[str, tuple[int, ...]]:
  """Shapes of an example's arrays, by key."""
  return {
    key: np.shape(array)
    for feature in preprocessor.features.values()
    for key, array in feature.make_absent().items()
  }
