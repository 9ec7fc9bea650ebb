"""Evaluates what a model says in conversations."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data import batches as batching
from mmjax.data import (
  chat_tokenizers,
  contact_sheet,
  features,
  preprocess,
  sources,
)
from mmjax.errors import ConfigError
from mmjax.evaluators import inputs, spread
from mmjax.metrics import captions
from mmjax.types import Batch, Params

# Of the arrays of conversations that have a column for each token.
_ENDINGS = ('', '_mask', '_loss_mask', '_segments', '_positions', '_rotary')
_COLUMNS = 64  # Batches have a multiple of it, or all.


@dataclasses.dataclass(frozen=True)
class _PromptReader:
  """Arrays of a record whose conversation stops before the last answer."""

  preprocessor: preprocess.Preprocessor
  feature: features.Turns
  length: int

  def __call__(self, record: sources.Record, rng: Any = None) -> dict[str, Any]:
    example = self.preprocessor(record, rng)
    found = features.split_last_answer(self.feature.choose(record, None) or ())
    before = found[0] if found else None
    return {**example, **self.feature.make_prompt_arrays(before, self.length)}


class Conversations:
  """Compares what a model says with what the assistants of records say.

  Yields over the learnt tokens `NAME/loss`, the cross-entropy of each in nats,
  `NAME/perplexity`, its exponential, and `NAME/token_accuracy`; over the
  records `NAME/exact`, the fraction whose last answer is written word for word,
  and `NAME/chance_exact`, that of the answers of other records. `NAME/too_long`
  is the fraction that have no answer here since what is before it is longer
  than `length`; they count as wrong.
  """

  def __init__(
    self,
    losses: Callable[[Params, Batch], Any],
    generate: Callable[[Params, Batch], Any],
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    target: str,
    length: int,
    batch_size: int,
    name: str,
    num_examples: int = 0,
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      losses: function of `mmjax.models.predict.make_assistant_losses`.
      generate: function (params, batch) -> ids [B, T] of answers.
      source: records with conversations.
      preprocessor: preprocessor that makes the features.
      target: name of the conversations' feature.
      length: largest number of tokens before an answer.
      batch_size: number of examples at a time.
      name: prefix of the metrics' names.
      num_examples: number of records to use, the first ones; 0 for all.
    """
    make_inputs = preprocessor.make_inputs
    self._losses = spread.jit_over_mesh(losses, make_inputs)
    self._generate = spread.jit_over_mesh(generate, make_inputs)
    self._source, self._preprocessor = source, preprocessor
    self._feature: features.Turns = preprocessor[target]
    self._length, self._batch_size = length, batch_size
    self._name = name
    self._num = min(num_examples or len(source), len(source))
    self._answers: list[tuple[int, str, str]] = []

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value).

    Raises:
      ConfigError: if no record has a token to learn.
    """
    total, right, count = self._measure_losses(params)
    if not count:
      raise ConfigError(
        f'none of {self._num} records has a token that the assistant says '
        f'within data.features.{self._feature.name}.length'
      )
    values = {
      'loss': total / count,
      'perplexity': math.exp(min(total / count, 700.0)),
      'token_accuracy': right / count,
      **self._measure_answers(params),
    }
    for key, value in values.items():
      yield f'{self._name}/{key}', float(value)

  def render(self) -> Image.Image | None:
    """Conversations with their true and written last answers."""
    if not self._answers:
      return None
    cells = []
    step = max(1, len(self._answers) // inputs.NUM_DRAWN)
    for index, true, written in self._answers[::step][: inputs.NUM_DRAWN]:
      record = self._source[index]
      drawing, lines = inputs.render(
        record, self._preprocessor.features.values()
      )
      color = contact_sheet.RIGHT if written == true else contact_sheet.WRONG
      cells.append(
        (
          drawing,
          [
            *lines[:2],
            (f'true: {true}', contact_sheet.QUIET),
            (f'written: {written}', color),
          ],
        )
      )
    return contact_sheet.render(cells, title=f'{self._name} (green: exact)')

  def _measure_losses(self, params: Params) -> np.ndarray:
    """The sums [3] of `make_assistant_losses` over the records."""
    sums = np.zeros(3)
    with batching.iterate_eval(
      self._source,
      self._preprocessor,
      self._batch_size,
      num_examples=self._num,
    ) as ahead:
      for batch in ahead:
        losses = self._losses(params, self._cut(batch))
        sums += losses.astype(np.float64).sum(axis=0)
    return sums

  def _cut(self, batch: Batch) -> Batch:
    """The batch without the last columns, in which nobody says anything.

    And without the last places of images and sounds that no row has, so that
    rows with room for many conversations cost no more than the longest one
    here. Few numbers of columns and places are compiled.
    """
    name = self._feature.name
    if f'{name}_sources' in batch:  # Places of images' tokens, for all columns.
      return batch
    said = np.flatnonzero(batch[f'{name}_mask'].any(axis=0))
    number = _COLUMNS * (1 + (said[-1] if len(said) else 0) // _COLUMNS)
    keys = {f'{name}{ending}' for ending in _ENDINGS}
    out = {k: x[:, :number] if k in keys else x for k, x in batch.items()}
    for media in self._feature.media_features.values():
      if isinstance(media, features.Images | features.Sounds):
        mask = batch[f'{media.name}_mask']
        used = np.flatnonzero(
          mask.reshape(*mask.shape[:2], -1).any(axis=(0, 2))
        )
        places = 1 << int(used[-1] if len(used) else 0).bit_length()
        out |= {key: out[key][:, :places] for key in media.list_keys()}
    return out

  def _measure_answers(self, params: Params) -> dict[str, float]:
    reader = _PromptReader(self._preprocessor, self._feature, self._length)
    written: dict[int, str | None] = {}
    tokenizer = self._preprocessor.tokenizer
    with batching.iterate_eval(
      self._source, reader, self._batch_size, num_examples=self._num
    ) as ahead:
      for batch in ahead:
        ids = self._generate(params, self._cut(batch))
        has_prompt = batch[f'{self._feature.name}_mask'].any(axis=1)
        for row, index in enumerate(batch['index']):
          if batch['mask'][row]:
            answer = chat_tokenizers.decode_answer(tokenizer, ids[row])
            written[int(index)] = answer if has_prompt[row] else None
    self._answers, number_long = [], 0
    for index, answer in written.items():
      record = self._source.read_small(index)
      found = features.split_last_answer(self._feature.get(record) or ())
      if found:
        number_long += answer is None
        self._answers.append((index, found[1].strip(), answer or ''))
    if not self._answers:
      return {}
    _, true, answers = map(list, zip(*self._answers, strict=True))
    references = [[answer] for answer in true]
    return {
      'exact': captions.exact_match(answers, references),
      'chance_exact': captions.exact_match(true[1:] + true[:1], references),
      'too_long': number_long / len(true),
    }
