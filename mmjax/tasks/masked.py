"""The task of predicting what is hidden of a feature from the rest."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np

from mmjax import evaluators, objectives
from mmjax.data import contact_sheet, gaps
from mmjax.data.features import Feature, Image, Sound, Text
from mmjax.errors import ConfigError
from mmjax.evaluators import masked as evaluator
from mmjax.models import predict
from mmjax.tasks import base
from mmjax.types import FieldInfo, Positive, Size

# Of the words of a text (Devlin et al. 2019), and of patches (He et al. 2022).
_FRACTIONS = {Text: 0.15, Image: 0.75, Sound: 0.8}
_SHOWN = 5


def fill(
  run: base.TrainedModel, **values: Any
) -> list[list[tuple[str, float]]]:
  """The likeliest texts, with `[MASK]` for each token to fill in.

  Each gap is predicted by itself, so the probability of a text with several is
  the product of theirs.

  Args:
    run: the trained model.
    **values: the text, or several, and values of further inputs; the others
      count as absent.

  Returns:
    For each text, up to 5 filled ones with their probabilities, likeliest
    first.

  Raises:
    ConfigError: if a text has no gap, or is longer than the model reads.
  """
  name = base.find_task(run, Masked).feature
  feature = _get_text(run, name)
  if name not in values:
    raise ConfigError(f'fill needs {name!r}, a text with {gaps.GAP}')
  batch = dict(base.prepare_inputs(run, values))
  texts = values[name]
  texts = list(texts) if isinstance(texts, list | tuple) else [texts]
  encoded = [
    gaps.encode(
      feature.tokenizer, text, feature.length, as_input=feature.as_input
    )
    for text in texts
  ]
  ids, mask, hidden = map(np.stack, zip(*encoded, strict=True))
  batch |= {name: ids, f'{name}_mask': mask, f'{name}_gaps': hidden}
  logits = np.asarray(run.predict(predict.make_fill, batch, feature=name))
  specials = _find_specials(feature)
  return [
    _fill_row(feature.tokenizer, *row, specials)
    for row in zip(ids, hidden, logits, strict=True)
  ]


def reconstruct(
  run: base.TrainedModel, *, seed: int = 0, **values: Any
) -> np.ndarray:
  """Images with a part hidden, and as the model completes them.

  Args:
    run: the trained model.
    seed: seed of what is hidden.
    **values: an image or a sound, or several.

  Returns:
    uint8 [B, 3, H, W, 3]: the image or spectrogram, what the model gets of it,
    and what it makes of that. Hidden patches get their true mean and contrast,
    which are not predicted: only `masked/error` says how well the model does.
  """
  task = base.find_task(run, Masked)
  feature = run.preprocessor[task.feature]
  if isinstance(feature, Text):
    raise ConfigError(f'{task.feature!r} is a text; use fill')
  if task.feature not in values:
    raise ConfigError(f'reconstruct needs {task.feature!r}')
  images = run.predict(
    predict.make_reconstructions,
    base.prepare_inputs(run, values),
    objective=task.objective(run.preprocessor.features),
    seed=seed,
  )
  return evaluator.to_pixels(feature, np.asarray(images, np.float32))


def _lines(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  """Filled texts with their probabilities, or the error of a reconstruction."""
  del texts, beam_size
  task = base.find_task(run, Masked)
  if isinstance(run.preprocessor[task.feature], Text):
    (filled,) = fill(run, **inputs)
    return [
      '  prob  text',
      *(f'{probability:6.1%}  {text}' for text, probability in filled),
    ]
  batch = dict(base.prepare_inputs(run, inputs)) | {'index': np.zeros(1, int)}
  objective = task.objective(run.preprocessor.features)
  found = run.predict(predict.make_masked_patches, batch, objective=objective)
  error, baseline = np.asarray(found)[0]
  return [
    f'squared error of the {objective.fraction:.0%} of patches that are hidden:'
    f' {error:.3f} (predicting the mean of each: {baseline:.3f})'
  ]


def _draw(
  run: base.TrainedModel, inputs: Mapping[str, Any], texts: Sequence[str]
) -> list[contact_sheet.Cell]:
  """Cards of an image or sound, of what is left of it, and completed."""
  del texts
  (versions,) = reconstruct(run, **inputs)
  lines = ('original', 'visible to the model', 'completed by the model')
  return [(image, [line]) for image, line in zip(versions, lines, strict=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masked(base.Task):
  """The model predicts hidden words of a text, or patches of an image or sound.

  Masked language modelling (BERT, Devlin et al. 2019, section 3.1), with a
  fusion from all features; and the masked autoencoder (He et al. 2022; for
  sounds Huang et al. 2022), whose encoder reads the visible patches alone. The
  heads are apart from the encoder's parameters, which another run can start
  from.

  Attributes:
    feature: feature of the kind text, image or sound, with an encoder
      'transformer', 'vit' or 'spectrogram_transformer'.
    fraction: fraction that is hidden; None for 0.15 of the words of a text,
      0.75 of the patches of an image, 0.8 of those of a sound.
    decoder_width: width of the decoder of patches, divisible by 4.
    decoder_depth: number of its blocks.
    decoder_heads: number of its heads.
    epsilon: added to the variance by which each patch of an image or sound is
      normalised. Where much of it is flat, as a plain background, a faint tint
      counts as much as an object unless this is larger: 0.03 for values in
      -1..1.
  """

  ability: ClassVar[str] = 'predict what is hidden of its inputs'
  report_rows: ClassVar[tuple[base.ReportRow, ...]] = (
    base.ReportRow(
      'hidden words right', 'masked/accuracy', 'masked/unigram_accuracy'
    ),
    base.ReportRow(
      'their cross-entropy',
      'masked/cross_entropy',
      'masked/unigram_cross_entropy',
      lower_is_better=True,
    ),
    base.ReportRow(
      'hidden patches error',
      'masked/error',
      'masked/mean_error',
      lower_is_better=True,
    ),
  )
  methods: ClassVar[Mapping[str, Any]] = {
    'fill': fill,
    'reconstruct': reconstruct,
  }
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse(
    '', _lines, draw=_draw
  )

  feature: str = ''
  fraction: Annotated[float, FieldInfo(above=0, below=1)] | None = None
  decoder_width: Size = 128
  decoder_depth: Annotated[int, FieldInfo(minimum=0)] = 2
  decoder_heads: Size = 4
  epsilon: Positive = 1e-6

  def check(self) -> None:
    if not self.feature:
      raise ConfigError("tasks.masked.feature='' names no feature to hide")
    if self.decoder_width % 4 or self.decoder_width % self.decoder_heads:
      raise ConfigError(
        f'tasks.masked.decoder_width={self.decoder_width} must be divisible by '
        f'4 and by decoder_heads={self.decoder_heads}'
      )

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.MaskedTokens | objectives.MaskedPatches:
    feature = self._get_feature(features)
    fraction = self.fraction or next(
      usual for kind, usual in _FRACTIONS.items() if isinstance(feature, kind)
    )
    if not isinstance(feature, Text):
      return objectives.MaskedPatches(self.feature, fraction, self.epsilon)
    _check_length(feature)
    return objectives.MaskedTokens(
      self.feature,
      fraction,
      _find_specials(feature),
      feature.tokenizer.vocab_size,
    )

  def batch_keys(self) -> tuple[str, ...]:
    return (self.feature,)

  def masked_heads(
    self, features: Mapping[str, Feature]
  ) -> dict[str, dict[str, Any]]:
    feature = self._get_feature(features)
    if not isinstance(feature, Text):
      settings = {
        'width': self.decoder_width,
        'depth': self.decoder_depth,
        'num_heads': self.decoder_heads,
      }
    elif feature.tokenizer is None:
      settings = {}
    else:
      settings = {'mask_id': gaps.find_mask_id(feature.tokenizer)}
    return {self.feature: settings}

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}masked'
    objective = self.objective(context.preprocessor.features)
    settings = {
      'feature': self.feature,
      'inputs': context.inputs,
      'name': name,
      **context.settings(),
    }
    if isinstance(objective, objectives.MaskedTokens):
      measure = predict.make_masked_tokens(context.model, objective=objective)
      return {
        name: evaluators.HiddenTokens(
          measure,
          context.source,
          context.preprocessor,
          train=context.train_source,
          **settings,
        )
      }
    measure = predict.make_masked_patches(context.model, objective=objective)
    return {
      name: evaluators.HiddenPatches(
        measure,
        context.source,
        context.preprocessor,
        rebuild=predict.make_reconstructions(
          context.model, objective=objective
        ),
        **settings,
      )
    }

  def _get_feature(self, features: Mapping[str, Feature]) -> Any:
    return base.get_target(self.feature, features, tuple(_FRACTIONS))


def _get_text(run: base.TrainedModel, name: str) -> Text:
  feature = run.preprocessor[name]
  if not isinstance(feature, Text):
    raise ConfigError(f'{name!r} is not a text; use reconstruct')
  return feature


def _check_length(feature: Text) -> None:
  """Refuses a text of which only special tokens are read."""
  number = feature.tokenizer.count('', as_input=feature.as_input)
  if feature.length <= number:
    raise ConfigError(
      f'tasks.masked: the length {feature.length} of {feature.name!r} has no '
      f'room for a word beside {number} special tokens; raise data.text_length '
      f'or data.features.{feature.name}.length'
    )


def _find_specials(feature: Text) -> tuple[int, ...]:
  """Ids that begin, end or fill up a text."""
  ids, _ = feature.tokenizer.encode(
    '', feature.length + 1, as_input=feature.as_input
  )
  return tuple(sorted({int(i) for i in ids} | {feature.tokenizer.pad_id}))


def _fill_row(
  tokenizer: Any,
  ids: np.ndarray,
  hidden: np.ndarray,
  logits: np.ndarray,
  specials: Sequence[int],
) -> list[tuple[str, float]]:
  """The likeliest texts of one with gaps; a gap gets no special token."""
  logits = logits.astype(np.float64)
  logits[:, list(specials)] = -np.inf
  log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
  texts = [(0.0, ids)]
  for position in np.flatnonzero(hidden):
    longer = []
    for score, row in texts:
      for token in np.argsort(-log_probs[position])[:_SHOWN]:
        filled = row.copy()
        filled[position] = token
        longer.append((score + log_probs[position, token], filled))
    texts = sorted(longer, key=lambda pair: -pair[0])[:_SHOWN]
  return [(tokenizer.decode(row), float(np.exp(score))) for score, row in texts]
