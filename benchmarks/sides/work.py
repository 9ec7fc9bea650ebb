"""What one side of a comparison does."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Work:
  """One side's work, ready to be timed.

  Attributes:
    run: does it once and waits until it is done.
    info: what is compared between the sides, where there is any: `parameters`,
      a number, and `output`, a list of numbers.
  """

  run: Callable[[], Any]
  info: Mapping[str, Any]
