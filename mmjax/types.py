"""The few types that every part of mmjax agrees on.

Shape letters: B batch, N tokens, T text (or queries), S keys (or slots of a
cache), L layers, H heads, G key-value heads, K head size, D width, E width of a
context or of a shared embedding, V vocabulary, C classes, n questions or images
an example; images [B, H, W, C], spectrograms [B, F, M] of F frames and M bands.

A batch is a dict of arrays. Its keys, all optional:

  image    [B, H, W, 3] float32, normalised    image_mask    [B] bool
  spectrogram [B, F, M] float32                spectrogram_mask [B, F] bool
  video    [B, F, H, W, 3] float32, normalised video_mask    [B] bool
  text     [B, T] int32, the caption           text_mask     [B, T] bool
  question [B, *n, Q] int32                    question_mask [B, *n, Q] bool
  answer   [B, *n, A] int32                    answer_mask   [B, *n, A] bool
  prompt   [B, P] int32, what a text that is written begins with
  prompt_mask [B, P] bool
  label    [B, *n] int32, the answer's index in the answer vocabulary, or -1
  index    [B] int, which record it came from
  mask     [B] bool, False where an evaluation batch is filled up

One question an image has no axis n; with it, there are n about each image, and
so have the outputs about answers.

Token sequences read `<bos> words <eos> <pad>`; a mask is True where the array
holds something. Where an example lacks a modality, its mask is all False.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import flax.struct
import jax

Array = jax.Array
Batch = Mapping[str, Any]
Outputs = Mapping[str, Any]
Params = Any  # A pytree of arrays, as Linen's `init` gives.
Metrics = dict[str, Any]
AxisNames = str | tuple[str, ...]  # Of the mesh, for code of one device.


@flax.struct.dataclass
class Tokens:
  """What every encoder and fusion returns: a masked sequence and its summary.

  Attributes:
    values: [B, N, D] one vector a token.
    mask: [B, N] bool, True where a token is real.
    pooled: [B, D] one vector an example; of no meaning where `mask` is all
      False.
  """

  values: Array
  mask: Array
  pooled: Array


@runtime_checkable
class Objective(Protocol):
  """A pure loss on a model's outputs.

  Attributes:
    compares: names of the outputs in which it compares examples with each
      other, () if it takes each example by itself. These, and the batch, must
      then be all that it looks at.
  """

  compares: tuple[str, ...]

  def count(self, batch: Batch) -> Array:
    """Number of items (tokens, examples) that the loss is a mean over."""

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """Returns the scalar loss, 0 where `count` is 0, and scalar metrics."""
