"""The few types that every part of mmjax agrees on.

Shape letters: B batch, N tokens, T text (or queries), S keys (or slots of a
cache), L layers, H heads, G key-value heads, K head size, D width, E width of a
context or of a shared embedding, V vocabulary, C classes, n questions or images
an example; images [B, H, W, C], spectrograms [B, F, M] of F frames and M bands.

A batch, as models and objectives read it, is a dict of arrays: for each feature
of a config's `data.features` its array and a mask, as `mmjax.data.features`
describes (`Feature.make_inputs` turns images from uint8 to floats), and

  image    [B, H, W, 3] float32, normalised    image_mask    [B] bool
  text     [B, T] int32, the caption           text_mask     [B, T] bool
  question [B, *n, Q] int32                    question_mask [B, *n, Q] bool
  answer   [B, *n, A] int32                    answer_mask   [B, *n, A] bool
  decoder_prompt [B, P] int32, what a text that is written begins with; a mask
  label    [B, *n] int32, the answer's index in the answer vocabulary, or -1
  index    [B] int, its place in the training data (of packed rows, the row's)
  source_index [B] int32, the number of its source in a mixture of data sets
  mask     [B] bool, False where an evaluation batch is filled up

all of them optional. Models of conversations and published ones also read

  spectrogram    [B, F, M] float32, with a mask [B, F]
  video          [B, F, H, W, 3] float32, with a mask [B] or [B, F]
  image          [B, n, H, W, 3] float32, in a text with placeholders for them
  patches        arguments of `PackedViT.encode_patches` by name: `patches`
                 [B, S, P] float32 of P numbers each, `positions` [B, S, 2],
                 `segments` [B, S] and, with windows, `windows` [B, S] int32
  text_positions [B, T, 3] int32, M-RoPE: time, row, column; or [B, T]
  text_segments  [B, T] int32, which of several texts in a row, from 1 on
  prefix_mask    [B, T] bool, tokens that attend to each other both ways

One question an image has no axis n; n about each have it, as their outputs.

Token sequences read `<bos> words <eos> <pad>`, conversations as
`mmjax.data.features.turns.Turns` writes them, with NAME_loss_mask [B, T] bool,
True for the tokens that a loss is over. A mask is True where the array holds
something. Where an example lacks a field, its mask is all False.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol, runtime_checkable

import flax.struct
import jax
import jax.numpy as jnp

from mmjax.errors import ConfigError

Array = jax.Array
RawBatch = Mapping[str, Any]  # As the data makes it, with images as uint8.
Batch = Mapping[str, Any]  # What `make_inputs` makes of it.
Outputs = Mapping[str, Any]
Params = Any  # A pytree of arrays, as Linen's `init` gives.
Metrics = dict[str, Any]
AxisNames = str | tuple[str, ...]  # Of the mesh, for code of one device.


@flax.struct.dataclass
class TokenVectors:
  """What encoders and fusions return: vectors, no ids, their mask and summary.

  Attributes:
    values: [B, N, D] one vector per token.
    mask: [B, N] bool, True where a token is real.
    pooled: [B, D] one vector an example; of no meaning where `mask` is all
      False.
    levels: [n, B, N, D] the tokens as n lower blocks of an encoder have them,
      for a decoder that adds them; None for most.
  """

  values: Array
  mask: Array
  pooled: Array
  levels: Array | None = None

  @classmethod
  def of(cls, values: Array, mask: Array | None = None) -> 'TokenVectors':
    """Makes tokens of an array, for a fusion or a decoder in other code.

    Args:
      values: [B, N, D], or [B, D] for one token an example.
      mask: [B, N], True where a token is real; None means everywhere.

    Returns:
      Vectors whose summary is the mean of the real ones.

    Raises:
      ConfigError: for a mask of another shape.
    """
    values = values[:, None] if values.ndim == 2 else values
    if mask is not None and mask.shape != values.shape[:2]:
      raise ConfigError(
        f'the mask {mask.shape} is not of the shape {values.shape[:2]} of the '
        'tokens: one number an example and token'
      )
    mask = jnp.ones(values.shape[:2], bool) if mask is None else mask
    kept = jnp.where(mask[..., None], values, 0)
    number = jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
    return cls(values, mask, kept.sum(axis=1) / number.astype(values.dtype))


@flax.struct.dataclass
class Items:
  """Losses by item, from which means by source are reported.

  Attributes:
    losses: [B, ...] loss of each item (token, pair) of each example.
    mask: bool [B, ...], True for the items that count.
  """

  losses: Array
  mask: Array


@flax.struct.dataclass
class FactoredLogits:
  """Logits that are not materialised: vectors @ kernel + bias.

  Text models return them in training. Logits [..., T, V] may be far larger than
  all else; `mmjax.parallel.vocabulary` computes losses without holding them,
  and its `multiply` computes them.

  Attributes:
    vectors: [..., T, D].
    kernel: [D, V] in the dtype of the vectors.
    bias: [V] float32; None for none.
    softcap: limit of the logits, as of `mmjax.ops.cap_softly`; None for none.
  """

  vectors: Array
  kernel: Array
  bias: Array | None = None
  softcap: float | None = flax.struct.field(pytree_node=False, default=None)

  def __repr__(self) -> str:
    shape = (*self.vectors.shape[:-1], self.kernel.shape[-1])
    return (
      f'<logits {shape} not materialised; mmjax.parallel.vocabulary.multiply '
      'computes them>'
    )


@runtime_checkable
class Objective(Protocol):
  """A pure loss on a model's outputs.

  Attributes:
    compared_outputs: names of the outputs in which it compares examples with
      each other, () if it takes each example by itself. These, and the batch,
      must then be all that it looks at.
  """

  compared_outputs: tuple[str, ...]

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
    """Computes the loss.

    Args:
      outputs: what the model returned for the batch.
      batch: arrays by name.
      apply: the model's `apply`, for another pass, by any of its methods.
        Objectives that compare examples must not use it.
      rng: key for what the objective draws.
      axis_name: mapped axes of the mesh if the arrays are those of one device;
        the loss and metrics are then means over its items. None if the arrays
        are global, whether or not a mesh shards them.

    Returns:
      The scalar loss, the mean over its items, 0 where `count` is 0; and scalar
      metrics, means over the same items. Beside them may stand `items`, the
      `Items` of the loss: then it is also reported for each source of a
      mixture; and `moves`, updates without a gradient, by path of a parameter:
      a mean over the items that the step adds after the optimizer.
    """


@runtime_checkable
class TaughtObjective(Objective, Protocol):
  """An objective that compares the model's outputs with a teacher's.

  It also gets the argument `apply_teacher`, a function batch -> outputs of the
  teacher, without dropout. The teacher's parameters get no gradient.

  Attributes:
    teacher: 'ema' for the EMA of the model's own parameters, 'frozen' for the
      experiment's frozen model of the objective's name
      (`mmjax.training.experiment.Experiment.frozen_models`), 'initial' for the
      model that the run started from: the frozen model of the objective's name,
      or the model's own parameters without their adapters.
  """

  teacher: str


@runtime_checkable
class ScheduledObjective(Objective, Protocol):
  """An objective whose loss changes with the number of steps.

  It also gets the argument `step`, [] int32, the number of steps done.

  Attributes:
    scheduled: True.
  """

  scheduled: bool


class Rollout(Protocol):
  """Makes training examples with the model that is trained.

  Before each update, `sample` runs with the parameters that are then updated,
  and `score` completes what it returns. With the same parameters, batch and key
  both give the same, so that a run resumes exactly.

  Attributes:
    reads: keys of the arrays that `score` reads.
    adds: keys of the arrays [B] float32 that `score` adds.
  """

  reads: Sequence[str]
  adds: Sequence[str]

  def sample(self, params: Params, batch: RawBatch, rng: Array) -> RawBatch:
    """Makes examples of a batch as the data makes it; pure, and compiled.

    Args:
      params: the model's parameters.
      batch: global arrays [b, ...], before `make_inputs`.
      rng: key of this step.

    Returns:
      Arrays [B, ...], B a multiple of b; examples made of one are adjacent.
    """

  def score(self, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
    """Makes further arrays of examples, by ordinary code on the host.

    Args:
      arrays: numpy arrays of `reads`, of all examples made of some of the
        batch's; on several hosts, of this one's.

    Returns:
      The arrays of `adds`, of the same examples.
    """


@dataclasses.dataclass(frozen=True)
class FieldInfo:
  """What a config may set a field of a module or objective to.

  Stands in the `Annotated` type of the field.

  Attributes:
    minimum: smallest legal number; None for any.
    above: number that a legal one is greater than; None for any.
    below: number that a legal one is less than; None for any.
    training_only: whether the field has an effect in training alone.
    without_recompute: of a field that changes how something is computed, not
      what: the value with which nothing is computed twice. None of other
      fields.
  """

  minimum: float | None = None
  above: float | None = None
  below: float | None = None
  training_only: bool = False
  without_recompute: Any = None

  def fault(self, value: Any) -> str:
    """Why a number is not legal; '' if it is."""
    if self.minimum is not None and value < self.minimum:
      lower = f'at least {self.minimum}'
    elif self.above is not None and not value > self.above:
      lower = f'more than {self.above}'
    elif self.below is not None and not value < self.below:
      lower = '' if self.minimum is None else f'at least {self.minimum}'
    else:
      return ''
    upper = '' if self.below is None else f'less than {self.below}'
    upper = 'finite' if self.below == math.inf else upper
    return 'must be ' + ' and '.join(filter(None, (lower, upper)))


FEATURE_ENDINGS = ('', '_mask', '_grid')  # Of the keys of a feature's arrays.
# Number of features, heads, layers, tokens or pixels.
Size = Annotated[int, FieldInfo(above=0)]
Positive = Annotated[float, FieldInfo(above=0)]
Fraction = Annotated[float, FieldInfo(minimum=0, below=1)]
# Probability with which something is dropped in training.
DropRate = Annotated[float, FieldInfo(minimum=0, below=1, training_only=True)]
# Index of a layer, from the end where it is negative.
LayerIndex = Annotated[int, FieldInfo()]
# Rematerialisation policy.
Remat = Annotated[str, FieldInfo(training_only=True, without_recompute='none')]
# Number of rows or columns of a matrix that is computed in tiles; 0: all.
Tile = Annotated[int, FieldInfo(minimum=0, without_recompute=0)]
# Whether devices exchange their parts one after the other.
Ring = Annotated[bool, FieldInfo(without_recompute=False)]
_WHOLE = FieldInfo(minimum=0)


def alternatives(hint: Any) -> tuple[Any, ...]:
  """The types of a union, without what annotates them; else the type alone."""
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    return tuple(
      kind for part in typing.get_args(hint) for kind in alternatives(part)
    )
  if typing.get_origin(hint) is Annotated:
    return alternatives(typing.get_args(hint)[0])
  return (hint,)


def find_field_info(hint: Any) -> FieldInfo:
  """The `FieldInfo` of a field's type; whole numbers without one are from 0."""
  found = [
    part
    for kind in (hint, *typing.get_args(hint))
    if typing.get_origin(kind) is Annotated
    for part in typing.get_args(kind)
    if isinstance(part, FieldInfo)
  ]
  if found:
    return found[0]
  return _WHOLE if int in alternatives(hint) else FieldInfo()


def list_field_info(cls: type) -> dict[str, FieldInfo]:
  """The `FieldInfo` of each field of a module or objective."""
  hints = typing.get_type_hints(cls, include_extras=True)
  return {
    field.name: find_field_info(hints[field.name])
    for field in dataclasses.fields(cls)
    if field.init and field.name in hints
  }


def check_value(path: str, value: Any, hint: Any) -> None:
  """Refuses a value that a field of a module or task can't have.

  Args:
    path: the field's path in the config, for the message.
    value: what the config sets.
    hint: the field's type with its annotations; of a sequence, the types of
      its items are not checked.

  Raises:
    ConfigError: naming the path, the value and what is legal.
  """
  options = alternatives(hint)
  if not any(_is_of(value, option) for option in options):
    names = ' or '.join(getattr(o, '__name__', str(o)) for o in options)
    raise ConfigError(
      f'{path} must be {names}, got {value!r} ({type(value).__name__})'
    )
  if isinstance(value, int | float) and not isinstance(value, bool):
    fault = find_field_info(hint).fault(value)
    if fault:
      raise ConfigError(f'{path} {fault}, got {value}')


def _is_of(value: Any, option: Any) -> bool:
  """Whether a config's value is legal for one type of an annotation."""
  kind = typing.get_origin(option) or option
  if kind is Any:
    return True
  if kind is float:
    return type(value) in (int, float)
  if kind in (Sequence, tuple, list):
    return isinstance(value, tuple | list)
  if kind in (Mapping, dict):
    return isinstance(value, Mapping)
  return kind in (int, bool, str, type(None)) and type(value) is kind
