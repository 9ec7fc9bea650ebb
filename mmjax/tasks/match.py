"""The task of judging whether two features belong together."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax import evaluators, objectives
from mmjax.data import batches as batching
from mmjax.data.features import Feature
from mmjax.errors import ConfigError
from mmjax.evaluators import spread
from mmjax.models import predict
from mmjax.objectives import matching
from mmjax.tasks import base
from mmjax.types import (
  Batch,
  Params,
)


class Pairs:
  """Classifies the pair of each record, and one with the next record's feature.

  Yields `NAME/accuracy`, the fraction of both that are classified right, and
  `NAME/chance_accuracy`, 1/2.
  """

  def __init__(
    self, context: base.EvalContext, features: tuple[str, str], name: str
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      context: the data split and what is evaluated on it.
      features: names of the two features.
      name: prefix of the metrics' names.
    """
    self._predict = spread.jit_over_mesh(
      predict.make_output(context.model, target=matching.OUTPUT),
      context.preprocessor.make_inputs,
    )
    self._context, self._features, self._name = context, features, name

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records that have both features.

    Raises:
      ConfigError: if there are none.
    """
    right: list[np.ndarray] = []
    settings = self._context.settings()
    with batching.iterate_eval(
      self._context.source,
      self._context.preprocessor,
      settings['batch_size'],
      num_examples=settings['num_examples'],
    ) as ahead:
      for batch in ahead:
        right += self._judge(params, batch)
    if not sum(map(len, right)):
      raise ConfigError(
        f'no record has both {" and ".join(self._features)} to match'
      )
    yield f'{self._name}/accuracy', float(np.concatenate(right).mean())
    yield f'{self._name}/chance_accuracy', 0.5

  def render(self) -> None:
    """Draws nothing: the pairs are those of the data."""

  def _judge(self, params: Params, batch: Batch) -> list[np.ndarray]:
    """Whether pairs and mismatches of a batch are classified right."""
    second = self._features[1]
    present = [
      batch[f'{feature}_mask'].reshape(len(batch['mask']), -1).any(axis=1)
      for feature in self._features
    ]
    mask = present[0] & present[1] & batch['mask']
    order = np.arange(len(mask))
    members = np.flatnonzero(mask)
    order[members] = np.roll(members, -1)
    inputs = {
      key: batch[key]
      for name in self._context.inputs
      for key in self._context.preprocessor[name].list_keys()
    }
    own = self._predict(params, inputs)[:, 0]
    for key in self._context.preprocessor[second].list_keys():
      inputs[key] = inputs[key][order]
    other = self._predict(params, inputs)[:, 0]
    differs = mask & (order != np.arange(len(mask)))
    return [own[mask] > 0, other[differs] <= 0]


def match(run: base.TrainedModel, **values: Any) -> np.ndarray:
  """Probabilities [B] that the given features belong together."""
  batch = base.prepare_inputs(run, values)
  logits = np.asarray(
    run.predict(predict.make_output, batch, target=matching.OUTPUT)
  )[:, 0]
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
  """The model judges whether two features belong together.

  It returns `match_output` [B, 1] of all that it reads; with `contrastive` or
  `align` beside, mismatches are hard ones.

  Attributes:
    features: names of the two features.
  """

  ability: ClassVar[str] = 'judge whether features belong together'
  report_rows: ClassVar[tuple[base.ReportRow, ...]] = (
    base.ReportRow(
      'pairs judged right', 'match/accuracy', 'match/chance_accuracy'
    ),
  )
  methods: ClassVar[Mapping[str, Any]] = {'match': match}
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse('', _lines)

  features: Sequence[str] = ('image', 'text')

  def objective(self, features: Mapping[str, Feature]) -> objectives.Matching:
    del features
    if len(set(self.features)) != 2:
      raise ConfigError(
        f'tasks.match.features={tuple(self.features)} should be two features'
      )
    return objectives.Matching(tuple(self.features))

  def batch_keys(self) -> tuple[str, ...]:
    return tuple(self.features)

  def output_sizes(self, features: Mapping[str, Feature]) -> dict[str, int]:
    del features
    return {matching.OUTPUT: 1}

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}match'
    return {name: Pairs(context, tuple(self.features), name)}
