"""Evaluates answers to questions about images."""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from mmjax.data import batches as batching
from mmjax.data import contact_sheet, images, preprocess, sources
from mmjax.evaluators import spread
from mmjax.metrics import answers as metrics
from mmjax.types import FEATURE_ENDINGS, Batch, Params

_KEYS = tuple(
  f'{name}{ending}'
  for name in ('image', 'question')
  for ending in FEATURE_ENDINGS
)


class Answers:
  """Compares a model's answers with people's.

  Yields `NAME/accuracy` (VQAv2's, Antol et al. 2015; the fraction of correct
  answers if each question has one), `NAME/accuracy/TYPE` by question type, and
  `NAME/majority_accuracy`, the accuracy of always giving the commonest answer
  of the question's type. With results of the blind baseline, it also yields
  `NAME/blind_accuracy` and `NAME/blind_accuracy/TYPE`.
  """

  def __init__(
    self,
    answer: Callable[[Params, Batch], Any],
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    batch_size: int,
    num_examples: int = 0,
    blind_metrics: Mapping[str, float] | None = None,
    name: str = 'vqa',
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      answer: function (params, batch) -> indices in the preprocessor's answer
        vocabulary [B], or token ids [B, A].
      source: records with questions; all questions of a record are used.
      preprocessor: preprocessor that makes the inputs of `answer`.
      batch_size: number of questions at a time.
      num_examples: number of records to use, the first ones; 0 for all.
      blind_metrics: metrics of this evaluation for the blind baseline.
      name: prefix of the metrics' names.
    """
    self._answer = spread.jit_over_mesh(answer, preprocessor.make_inputs)
    if num_examples:
      first = range(min(num_examples, len(source)))
      source = sources.Subset(source, list(first))
    self._feature = preprocessor['questions']
    self._source = sources.view_questions(source, self._feature.field_name)
    self._preprocess, self._batch_size = preprocessor, batch_size
    self._blind, self._name = dict(blind_metrics or {}), name
    self._predictions: list[str] = []

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value)."""
    questions = [
      self._feature.get(record)[0] for record in self._source.iterate_small()
    ]
    self._predictions = self._predict(params)
    self._questions = questions
    references = [entry['answers'] for entry in questions]
    types = [entry['type'] for entry in questions]
    values = metrics.vqa_accuracy(self._predictions, references, types)
    majority = metrics.vqa_accuracy(_majority_answers(questions), references)
    values['majority_accuracy'] = majority['accuracy']
    for key, value in values.items():
      yield f'{self._name}/{key}', float(value)
    prefix = f'{self._name}/accuracy'
    for key, value in self._blind.items():
      if key.startswith(prefix):
        yield f'{self._name}/blind_accuracy{key[len(prefix) :]}', float(value)

  def render(self) -> Image.Image | None:
    """Images with questions, true and predicted answers."""
    if not self._predictions:
      return None
    cells = []
    step = max(1, len(self._predictions) // 24)
    for i in range(0, len(self._predictions), step)[:24]:
      entry, prediction = self._questions[i], self._predictions[i]
      right = metrics.vqa_score(prediction, entry['answers']) > 0
      color = contact_sheet.RIGHT if right else contact_sheet.WRONG
      true = (f'true: {entry["answers"][0]}', contact_sheet.QUIET)
      lines = [entry['question'], true, (f'predicted: {prediction}', color)]
      image = self._source[i]['fields'].get('image')
      cells.append((images.decode(image) if image else None, lines))
    return contact_sheet.render(
      cells, title=f'{self._name}: predicted answers (green: correct)'
    )

  def _predict(self, params: Params) -> list[str]:
    predictions = []
    with batching.iterate_eval(
      self._source, self._preprocess, self._batch_size
    ) as ahead:
      for batch in ahead:
        arrays = {key: batch[key] for key in _KEYS if key in batch}
        chosen = self._answer(params, arrays)
        if chosen.ndim == 1:
          predictions += [self._feature.answers[i] for i in chosen]
        else:
          predictions += [
            self._preprocess.tokenizer.decode(ids) for ids in chosen
          ]
    return predictions[: len(self._source)]


def _majority_answers(questions: Sequence[Mapping[str, Any]]) -> list[str]:
  """The most frequent answer of each question's type."""
  counts = collections.defaultdict(collections.Counter)
  for entry in questions:
    counts[entry['type']].update(entry['answers'])
  best = {kind: c.most_common(1)[0][0] for kind, c in counts.items()}
  return [best[entry['type']] for entry in questions]
