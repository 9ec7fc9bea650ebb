"""The task of bringing features that belong together into one space."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax import evaluators, objectives
from mmjax.data import features
from mmjax.data.features import Feature
from mmjax.errors import ConfigError
from mmjax.metrics import retrieval
from mmjax.models import predict
from mmjax.tasks import base
from mmjax.types import Array, Ring, Tile


def embed(run: base.TrainedModel, **values: Any) -> Array:
  """Unit vectors of one value of a feature, or of several.

  Args:
    run: the trained model.
    **values: one feature by name, such as `image='photo.png'`.

  Returns:
    [B, E], or for MaxSim [B, N, E], those of padding being 0.
  """
  if len(values) != 1:
    raise ConfigError(
      f'embed takes the values of one feature, not of {list(values) or "none"}'
    )
  (name,) = values
  return run.predict(predict.make_embed, run.prepare(**values), name=name)


def rank_texts(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  """Lines of texts with their score with an input, the highest first."""
  del beam_size
  text = next(
    name
    for name, feature in run.preprocessor.features.items()
    if isinstance(feature, features.StoredTexts)
  )
  (given,) = inputs.items()
  rows = np.asarray(embed(run, **{text: list(texts)}))
  row = np.asarray(embed(run, **dict([given])))
  if rows.ndim == 2:  # Of any task that embeds.
    score, values = 'cosine', rows @ row[0]
  else:
    task = base.find_task(run, Align)
    score, is_query = task.score, text == task.features[0]
    pair = (rows, row) if is_query else (row, rows)
    values = retrieval.maxsim(*pair, task.tile).ravel()
  ranked = (f'{values[i]:6.3f}  {texts[i]}' for i in np.argsort(-values))
  return [f'{score}  text', *ranked]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Align(base.Task):
  """Features of one record get similar vectors, those of others different ones.

  The model returns `FEATURE_embedding` of each feature and `logit_scale`, for
  the sigmoid loss also `logit_bias`; its method `embed(batch, feature)` gives
  the vectors of one feature.

  Attributes:
    features: names of the features, two or more.
    anchor: feature that is compared with each other one; '' for all pairs.
    kind: loss, 'softmax' (CLIP), 'sigmoid' (SigLIP) or 'correlation' (DCCA).
    tile: number of candidates whose logits are computed at once; 0 for all. For
      MaxSim, also in evaluation.
    ring: whether devices pass their candidates around a ring.
    negatives: feature of texts that are wrong for the first feature and so are
      further candidates for it; '' for none. With it, the second feature is
      found for the first, and not the other way round.
    score: 'cosine', or 'maxsim' for a model with a vector for each token.
  """

  ability: ClassVar[str] = 'embed its features'
  methods: ClassVar[Mapping[str, Any]] = {'embed': embed}
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse(
    'text', rank_texts, feature='text'
  )

  features: Sequence[str] = ()
  anchor: str = ''
  kind: str = 'softmax'
  tile: Tile = 0
  ring: Ring = False
  negatives: str = ''
  score: str = 'cosine'

  @property
  def embeds(self) -> Sequence[str]:
    return self.features if self.score == 'cosine' else ()

  def list_embedded(self) -> Sequence[str]:
    return (*self.features, *filter(None, [self.negatives]))

  @property
  def report_rows(self) -> tuple[base.ReportRow, ...]:
    return tuple(
      base.ReportRow(
        f'{first} to {second} R@1',
        f'{name}/{first}_to_{second}_r1',
        f'{name}/chance_r1',
      )
      for name, pair in self._evaluations().items()
      for first, second in (pair, pair[::-1])
    )

  def objective(
    self, features: Mapping[str, Feature]
  ) -> (
    objectives.Contrastive
    | objectives.CanonicalCorrelation
    | objectives.Ranking
  ):
    del features
    if self.negatives or self.score != 'cosine':
      if self.kind != 'softmax' or self.ring or self.anchor:
        raise ConfigError(
          f'kind={self.kind!r}, ring={self.ring} and anchor={self.anchor!r}: '
          "hard negatives and MaxSim are for kind='softmax' without ring and "
          'anchor; leave these out'
        )
      return objectives.Ranking(
        self.features, self.negatives, self.score, self.tile
      )
    if self.kind == 'correlation':
      if self.tile or self.ring:
        raise ConfigError(
          "kind='correlation' has no candidates; leave out tile and ring"
        )
      return objectives.CanonicalCorrelation(self.features, self.anchor)
    return objectives.Contrastive(
      kind=self.kind,
      tile=self.tile,
      ring=self.ring,
      features=self.features,
      anchor=self.anchor,
    )

  def batch_keys(self) -> tuple[str, ...]:
    return tuple(self.list_embedded())

  def required_keys(self) -> Sequence[Sequence[str]]:
    return self.objective({}).pairs

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    return {
      f'{context.prefix}{name}': evaluators.Retrieval(
        {
          feature: predict.make_embed(context.model, name=feature)
          for feature in pair
        },
        context.source,
        context.preprocessor,
        gallery_by=context.config.eval.gallery_by,
        score=self.score,
        tile=self.tile,
        name=f'{context.prefix}{name}',
        **context.settings(),
      )
      for name, pair in self._evaluations().items()
      if pair not in context.lacking
    }

  def _evaluations(self) -> dict[str, tuple[str, str]]:
    """The pairs of features that are evaluated, by name."""
    pairs = self.objective({}).pairs
    if len(pairs) == 1:
      return {'retrieval': pairs[0]}
    return {f'retrieval_{"_".join(pair)}': pair for pair in pairs}
