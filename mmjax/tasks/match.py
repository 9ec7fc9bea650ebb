"""The task of judging whether two fields belong together."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import evaluators, ops
from mmjax.data import batches as batching
from mmjax.data.features import Feature
from mmjax.errors import ConfigError
from mmjax.evaluators import spread
from mmjax.models import predict
from mmjax.objectives import presence
from mmjax.tasks import base
from mmjax.types import (
  Array,
  AxisNames,
  Batch,
  Items,
  Metrics,
  Outputs,
  Params,
)

# The model's output, of which there is one.
OUTPUT = 'match'


@dataclasses.dataclass(frozen=True)
class Matching:
  """Classifies pairs of fields, matched or not (ALBEF, Li et al. 2021, eq. 4).

  Each example gives its own pair and two mismatched ones, with another
  example's first field and with another's second. These are hard negatives:
  they are drawn by their similarity, if the model embeds the fields
  (`FIELD_embedding`, from `contrastive` or `align`), and else uniformly. They
  are of the same micro-batch, and with `pmap` of the same device. The loss of
  an example is the mean of its three, or that of its pair alone if no other
  example has both fields.

  Attributes:
    fields: names of the two fields.
  """

  compares: ClassVar[tuple[str, ...]] = ()

  fields: tuple[str, str]

  def count(self, batch: Batch) -> Array:
    """Number of examples that have both fields."""
    return presence.joint_mask(batch, *self.fields).sum(dtype=jnp.float32)

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and `accuracy` of pairs and mismatches as a metric.

    Raises:
      ConfigError: for a single example, which has no other to be mismatched
        with.
    """
    del axis_name
    mask = presence.joint_mask(batch, *self.fields)  # [B]
    if len(mask) < 2:
      raise ConfigError(
        'tasks.match draws mismatches among the examples of one micro-batch, '
        "with mesh.style='pmap' of one device, which has 1; use a larger "
        'train.batch_size or a smaller train.accumulate'
      )
    first, second = self.fields
    scores = self._similarity(outputs, len(mask))
    logits = [presence.get_output(outputs, f'{OUTPUT}_output')[:, 0]]
    kept = [mask]
    for field, rows in ((second, scores), (first, scores.T)):
      rng, draw, dropout = jax.random.split(rng, 3)
      other, exists = _draw_others(draw, rows, mask)
      mismatched = dict(batch)
      for key in (field, f'{field}_mask'):
        mismatched[key] = batch[key][other]
      found = apply(mismatched, train=True, rngs={'dropout': dropout})
      logits.append(found[f'{OUTPUT}_output'][:, 0])
      kept.append(mask & exists)
    is_pair = jnp.array([1.0, -1.0, -1.0])[:, None]  # [3, 1]
    kept = jnp.stack(kept)  # [3, B]
    signed = jnp.where(kept, is_pair * jnp.stack(logits), 0.0)
    losses = jnp.where(kept, -jax.nn.log_sigmoid(signed), 0.0)
    # An item is an example, as `count` says: its pair with its mismatches.
    losses = losses.sum(axis=0) / jnp.maximum(kept.sum(axis=0), 1)  # [B]
    return ops.masked_mean(losses, mask), {
      'accuracy': ops.masked_mean(signed > 0, kept),
      'items': Items(losses, mask),
    }

  def _similarity(self, outputs: Outputs, number: int) -> Array:
    """Logits [B, B] of drawing a second field for a first one."""
    names = [f'{field}_embedding' for field in self.fields]
    if not all(name in outputs for name in names):
      return jnp.zeros((number, number))
    first, second = (jax.lax.stop_gradient(outputs[name]) for name in names)
    scale = jax.lax.stop_gradient(outputs['logit_scale'])
    return scale * jnp.nan_to_num(first) @ jnp.nan_to_num(second).T


def _draw_others(rng: Array, scores: Array, mask: Array) -> tuple[Array, Array]:
  """Draws another example for each.

  Args:
    rng: key.
    scores: logits [B, B] of drawing example j for example i.
    mask: [B], False for examples that can't be drawn.

  Returns:
    Indices [B], and whether there is another example, [B].
  """
  legal = mask[None] & ~jnp.eye(len(mask), dtype=bool)  # [B, B]
  drawn = jax.random.categorical(rng, jnp.where(legal, scores, -jnp.inf))
  exists = legal.any(axis=1)
  return jnp.where(exists, drawn, 0), exists


class Pairs:
  """Classifies the pair of each record, and one with the next record's field.

  Yields `NAME/accuracy`, the fraction of both that are classified right, and
  `NAME/chance_accuracy`, 1/2.
  """

  def __init__(self, split: base.Split, fields: tuple[str, str], name: str):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      split: the data split.
      fields: names of the two fields.
      name: prefix of the metrics' names.
    """
    self._predict = spread.jit_over_mesh(
      predict.make_output(split.model, target=OUTPUT),
      split.preprocessor.make_inputs,
    )
    self._split, self._fields, self._name = split, fields, name

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records that have both fields.

    Raises:
      ConfigError: if there are none.
    """
    right: list[np.ndarray] = []
    settings = self._split.settings()
    with batching.iterate_eval(
      self._split.source,
      self._split.preprocessor,
      settings['batch_size'],
      num_examples=settings['num_examples'],
    ) as ahead:
      for batch in ahead:
        right += self._judge(params, batch)
    if not sum(map(len, right)):
      raise ConfigError(
        f'no record has both {" and ".join(self._fields)} to match'
      )
    yield f'{self._name}/accuracy', float(np.concatenate(right).mean())
    yield f'{self._name}/chance_accuracy', 0.5

  def draw(self) -> None:
    """Draws nothing: the pairs are those of the data."""

  def _judge(self, params: Params, batch: Batch) -> list[np.ndarray]:
    """Whether pairs and mismatches of a batch are classified right."""
    second = self._fields[1]
    present = [
      batch[f'{field}_mask'].reshape(len(batch['mask']), -1).any(axis=1)
      for field in self._fields
    ]
    mask = present[0] & present[1] & batch['mask']
    order = np.arange(len(mask))
    members = np.flatnonzero(mask)
    order[members] = np.roll(members, -1)
    inputs = {
      key: batch[key]
      for name in self._split.inputs
      for key in self._split.preprocessor[name].list_keys()
    }
    own = self._predict(params, inputs)[:, 0]
    for key in (second, f'{second}_mask'):
      inputs[key] = inputs[key][order]
    other = self._predict(params, inputs)[:, 0]
    differs = mask & (order != np.arange(len(mask)))
    return [own[mask] > 0, other[differs] <= 0]


def match(run: base.TrainedModel, **values: Any) -> np.ndarray:
  """Probabilities [B] that the given fields belong together."""
  batch = base.prepare_inputs(run, values)
  logits = np.asarray(run.apply(predict.make_output, batch, target=OUTPUT))[
    :, 0
  ]
  return 1 / (1 + np.exp(-logits.astype(np.float64)))


def _lines(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  del texts, beam_size
  return [f'{match(run, **inputs)[0]:.1%} that they belong together']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Match(base.Task):
  """The model judges whether two fields belong together.

  It returns `match_output` [B, 1] of all that it reads; with `contrastive` or
  `align` beside, mismatches are hard ones.

  Attributes:
    fields: names of the two features.
  """

  ability: ClassVar[str] = 'judge whether fields belong together'
  report_rows: ClassVar[tuple[base.ReportRow, ...]] = (
    base.ReportRow(
      'pairs judged right', 'match/accuracy', 'match/chance_accuracy'
    ),
  )
  methods: ClassVar[Mapping[str, Any]] = {'match': match}
  predict_flag: ClassVar[base.PredictFlag | None] = base.PredictFlag('', _lines)

  fields: Sequence[str] = ('image', 'text')

  def objective(self) -> Matching:
    if len(set(self.fields)) != 2:
      raise ConfigError(
        f'tasks.match.fields={tuple(self.fields)} should be two features'
      )
    return Matching(tuple(self.fields))

  def needs(self) -> tuple[str, ...]:
    return tuple(self.fields)

  def output_sizes(self, features: Mapping[str, Feature]) -> dict[str, int]:
    del features
    return {OUTPUT: 1}

  def evaluators(self, split: base.Split) -> dict[str, evaluators.Evaluator]:
    name = f'{split.prefix}match'
    return {name: Pairs(split, tuple(self.fields), name)}
