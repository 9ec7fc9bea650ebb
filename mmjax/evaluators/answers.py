"""Answers to questions about images."""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from mmjax.data import batches as batching
from mmjax.data import contact_sheet, images, preprocess, sources
from mmjax.evaluators import spread
from mmjax.metrics import answers as metrics
from mmjax.types import Batch, Params

_KEYS = ('image', 'image_mask', 'question', 'question_mask')


class Answers:
  """Compares a model's answers with people's.

  Yields `NAME/accuracy` (VQAv2's, Antol et al. 2015; the plain share of right
  answers where each question has one), `NAME/accuracy/TYPE` by question type,
  and as a floor `NAME/majority_accuracy`: that of always giving the answer that
  is commonest for the question's type. With the numbers of a model that saw no
  image, they follow as `NAME/blind_accuracy` and `NAME/blind_accuracy/TYPE`.
  """

  def __init__(
    self,
    answer: Callable[[Params, Batch], Any],
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    batch_size: int,
    num_examples: int = 0,
    blind: Mapping[str, float] | None = None,
    name: str = 'vqa',
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      answer: (params, batch) -> indices in the preprocessor's answer
        vocabulary [B], or token ids [B, A].
      source: records with questions; all questions of a record are asked.
      preprocessor: must make what `answer` reads.
      batch_size: questions at a time.
      num_examples: only the questions of the first so many records; 0 for all.
      blind: the numbers that this evaluation yielded for a model that sees no
        image.
      name: prefix of the numbers.
    """
    self._answer = spread.over_mesh(answer)
    if num_examples:
      first = range(min(num_examples, len(source)))
      source = sources.Subset(source, list(first))
    self._source = sources.view_questions(source)
    self._preprocess, self._batch_size = preprocessor, batch_size
    self._blind, self._name = dict(blind or {}), name
    self._given: list[str] = []

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value)."""
    asked = [record['questions'][0] for record in self._source.iterate_texts()]
    self._given = self._answers(params)
    self._asked = asked
    references = [entry['answers'] for entry in asked]
    types = [entry['type'] for entry in asked]
    values = metrics.vqa_accuracy(self._given, references, types)
    majority = metrics.vqa_accuracy(_commonest(asked), references)
    values['majority_accuracy'] = majority['accuracy']
    for key, value in values.items():
      yield f'{self._name}/{key}', float(value)
    prefix = f'{self._name}/accuracy'
    for key, value in self._blind.items():
      if key.startswith(prefix):
        yield f'{self._name}/blind_accuracy{key[len(prefix) :]}', float(value)

  def picture(self) -> Image.Image | None:
    """Images with questions, true and given answers."""
    if not self._given:
      return None
    cells = []
    step = max(1, len(self._given) // 24)
    for i in range(0, len(self._given), step)[:24]:
      entry, given = self._asked[i], self._given[i]
      right = metrics.vqa_score(given, entry['answers']) > 0
      color = contact_sheet.RIGHT if right else contact_sheet.WRONG
      true = (f'true: {entry["answers"][0]}', contact_sheet.QUIET)
      lines = [entry['question'], true, (f'given: {given}', color)]
      image = self._source[i]['image']
      cells.append((images.decode(image) if image else None, lines))
    return contact_sheet.draw(
      cells, title=f'{self._name}: given answers (green: right)'
    )

  def _answers(self, params: Params) -> list[str]:
    given = []
    with batching.iterate_eval(
      self._source, self._preprocess, self._batch_size
    ) as ahead:
      for batch in ahead:
        arrays = {key: batch[key] for key in _KEYS if key in batch}
        chosen = self._answer(params, arrays)
        if chosen.ndim == 1:
          given += [self._preprocess.answers[i] for i in chosen]
        else:
          given += [self._preprocess.tokenizer.decode(ids) for ids in chosen]
    return given[: len(self._source)]


def _commonest(asked: Sequence[Mapping[str, Any]]) -> list[str]:
  """For each question, the answer that its type gets most often."""
  counts = collections.defaultdict(collections.Counter)
  for entry in asked:
    counts[entry['type']].update(entry['answers'])
  best = {kind: c.most_common(1)[0][0] for kind, c in counts.items()}
  return [best[entry['type']] for entry in asked]
