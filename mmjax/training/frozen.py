"""Models that objectives learn from, and that are not trained."""

import dataclasses
from collections.abc import Callable

from mmjax.types import Batch, Outputs, Params


@dataclasses.dataclass(frozen=True)
class FrozenModel:
  """A trained model that an objective learns from, and that isn't trained.

  Its parameters are an argument of the training step beside the state: they
  are sharded over the mesh, and no checkpoint has them.

  Attributes:
    apply: function (params, batch) -> outputs, without dropout.
    params: its parameters, numpy arrays.
    boxed: their shapes with the boxes of `nn.with_logical_partitioning`.
  """

  apply: Callable[[Params, Batch], Outputs]
  params: Params
  boxed: Params
