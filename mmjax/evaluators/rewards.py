"""Evaluates the rewards of what a model writes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data import batches as batching
from mmjax.data import chat_tokenizers, contact_sheet, preprocess, sources
from mmjax.errors import ConfigError
from mmjax.evaluators import inputs, spread
from mmjax.types import Batch, Params

# (what was written, record) -> reward.
Reward = Callable[[str, Mapping[str, Any]], float]


class Rewards:
  """Measures the mean reward of what a model writes, `NAME/reward`.

  `NAME/too_long` is the fraction of prompts that are longer than the feature's
  length; nothing is written after them, and their reward is that of ''.
  """

  def __init__(
    self,
    generate: Callable[[Params, Batch], Any],
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    target: str,
    find_reward: Callable[[str, Mapping[str, Any]], float],
    batch_size: int,
    name: str,
    num_examples: int = 0,
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      generate: function (params, batch) -> ids [B, T] of answers.
      source: records with prompts.
      preprocessor: preprocessor that makes the features.
      target: name of the prompts' feature.
      find_reward: the reward of an answer to a record's prompt.
      batch_size: number of examples at a time.
      name: prefix of the metrics' names.
      num_examples: number of records to use, the first ones; 0 for all.
    """
    self._generate = spread.jit_over_mesh(generate, preprocessor.make_inputs)
    self._source, self._preprocessor = source, preprocessor
    self._target, self._find_reward = target, find_reward
    self._batch_size, self._name = batch_size, name
    self._num = min(num_examples or len(source), len(source))
    self._written: list[tuple[int, str, float]] = []

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value).

    Raises:
      ConfigError: if no record has a prompt, or a reward is not a number.
    """
    self._written, too_long = [], 0
    tokenizer = self._preprocessor.tokenizer
    feature = self._preprocessor[self._target]
    with batching.iterate_eval(
      self._source,
      self._preprocessor,
      self._batch_size,
      num_examples=self._num,
    ) as ahead:
      for batch in ahead:
        ids = self._generate(params, batch)
        has_prompt = batch[f'{self._target}_mask'].any(axis=1)
        for row in np.flatnonzero(batch['mask']):
          index = int(batch['index'][row])
          record = self._source[index]
          if feature.get(record) is None:
            continue
          too_long += not has_prompt[row]
          text = chat_tokenizers.decode_answer(tokenizer, ids[row])
          text = text if has_prompt[row] else ''
          reward = self._find_reward(text, record)
          self._written.append((index, text, reward))
    if not self._written:
      raise ConfigError(f'none of {self._num} records has {feature.word}')
    rewards = [reward for *_, reward in self._written]
    yield f'{self._name}/reward', float(np.mean(rewards))
    yield f'{self._name}/too_long', too_long / len(rewards)

  def render(self) -> Image.Image | None:
    """Prompts with what was written after them, and its reward."""
    if not self._written:
      return None
    rewards = np.array([reward for *_, reward in self._written])
    cells, step = [], max(1, len(self._written) // inputs.NUM_DRAWN)
    for index, text, reward in self._written[::step][: inputs.NUM_DRAWN]:
      drawing, lines = inputs.render(
        self._source[index], self._preprocessor.features.values()
      )
      good = reward >= rewards.mean()
      color = contact_sheet.RIGHT if good else contact_sheet.WRONG
      cells.append(
        (drawing, [*lines[:2], f'written: {text}', (f'{reward:.3g}', color)])
      )
    return contact_sheet.render(
      cells, title=f'{self._name} (green: at least the mean reward)'
    )
