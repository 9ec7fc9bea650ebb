"""What one side of a comparison does."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Work:
  """One side's work, ready to be timed.

  Attributes:
    run: does it once and waits until it is done.
    info: what is known of it, where there is any: `parameters`, a number, and
      `output`, numbers, are compared between the sides; `examples` of a run,
      where the sides differ in them; `flops` of a run, the name of the `device`
      and its `peak` in FLOP/s; `note` for the table.
    warm: number of runs before those that are timed.
  """

  run: Callable[[], Any]
  info: Mapping[str, Any]
  warm: int = 2
