"""What the training loop knows of an evaluator."""

from collections.abc import Iterator
from typing import Protocol

from PIL import Image

from mmjax.types import Params


class Evaluator(Protocol):
  """Named numbers about parameters, and an image of examples."""

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value)."""

  def render(self) -> Image.Image | None:
    """A contact sheet of the last `run`; None if there is nothing to show."""
