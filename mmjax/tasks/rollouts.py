"""Answers that a model writes to train on, with their rewards."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mmjax import objectives
from mmjax.data import chat_tokenizers, preprocess, sources
from mmjax.errors import ConfigError
from mmjax.types import Array, Params, RawBatch


@dataclasses.dataclass(frozen=True)
class GroupRollout:
  """Writes several answers to each prompt of a batch, and rewards them.

  A `mmjax.types.Rollout`. The prompts are those of a feature of the kind
  `prompt`; the batch then has conversations as the kind `turns` makes them, of
  which the answer is learnt, each prompt's next to each other. With them come
  what `mmjax.objectives.GroupPolicy` needs.

  Attributes:
    model: one with `generate`.
    preprocessor: the run's.
    source: the training records.
    find_reward: (answer, record) -> the reward.
    target: name of the prompts' feature.
    group: number of answers to a prompt.
    max_new_tokens: largest number of tokens of an answer.
    temperature: temperature of sampling.
    scale_by_std: whether to divide by the deviation, as in
      `mmjax.objectives.group_advantages`.
  """

  added: ClassVar[tuple[str, ...]] = ('reward', 'advantage')

  model: nn.Module
  preprocessor: preprocess.Preprocessor
  source: sources.Source
  find_reward: Callable[[str, Mapping[str, Any]], float]
  target: str
  group: int
  max_new_tokens: int
  temperature: float
  scale_by_std: bool

  @property
  def reads(self) -> tuple[str, ...]:
    """Keys of the arrays that `score` reads."""
    return ('index', self.target, f'{self.target}_loss_mask')

  @property
  def adds(self) -> tuple[str, ...]:
    """Keys of the arrays [B] float32 that `score` adds."""
    return tuple(f'{self.target}_{name}' for name in self.added)

  def sample(self, params: Params, batch: RawBatch, rng: Array) -> RawBatch:
    """Writes the answers; pure."""
    batch = {
      name: jnp.repeat(array, self.group, axis=0)
      for name, array in batch.items()
    }
    written = self.model.apply(
      {'params': params},
      self.preprocessor.make_inputs(batch),
      text_kind='continue',
      max_new_tokens=self.max_new_tokens,
      temperature=self.temperature,
      eos_id=chat_tokenizers.get_end_ids(self.preprocessor.tokenizer),
      rng=rng,
      method='generate',
    )
    name = self.target
    joined = append_answers(batch[name], batch[f'{name}_mask'], written)
    return {**batch, **{f'{name}{end}': x for end, x in joined.items()}}

  def score(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rewards of the answers, and their advantages in their groups.

    Args:
      arrays: arrays of `reads`, of whole groups.

    Raises:
      ConfigError: if a reward is not a finite number.
    """
    records: dict[int, Mapping[str, Any]] = {}
    rewards = []
    for index, ids, loss_mask in zip(
      *(arrays[name] for name in self.reads), strict=True
    ):
      index = int(index)
      if index not in records:
        records[index] = self.source[index]
      answer = chat_tokenizers.decode_answer(
        self.preprocessor.tokenizer, ids[loss_mask]
      )
      rewards.append(self.find_reward(answer, records[index]))
    rewards = np.array(rewards, np.float32)
    advantages = objectives.group_advantages(
      rewards, self.group, scale_by_std=self.scale_by_std
    )
    return dict(zip(self.adds, (rewards, advantages), strict=True))


def append_answers(
  prompt: Array, mask: Array, written: Any
) -> dict[str, Array]:
  """Puts each answer right behind its prompt, whose padding comes last.

  With a prompt of two tokens of three, and an answer of one token of two:

    prompt  5 6 .    answer  7 .    ids  5 6 7 . .    loss  . . 1 . .

  Args:
    prompt: ids [B, P] of prompts.
    mask: [B, P], True on real tokens. Without any, there is no answer either.
    written: what the model wrote, `mmjax.decoders.Generated` of [B, C].

  Returns:
    By the ending of the key: ids '' [B, P + C], '_mask', '_loss_mask', True on
    the answer, and '_log_probs' of the sampler.
  """
  number = mask.sum(axis=1)[:, None]  # [B, 1]
  steps = jnp.arange(prompt.shape[1] + written.tokens.shape[1])[None]
  at = steps - number  # [B, P + C], place in the answer
  inside = (at >= 0) & (at < written.tokens.shape[1]) & (number > 0)
  at = jnp.clip(at, 0, written.tokens.shape[1] - 1)
  take = lambda array: jnp.take_along_axis(array, at, axis=1)
  loss_mask = inside & take(written.mask)
  before = jnp.pad(prompt, [(0, 0), (0, written.tokens.shape[1])])
  is_prompt = steps < number
  ids = jnp.where(
    is_prompt, before, jnp.where(loss_mask, take(written.tokens), 0)
  )
  return {
    '': ids,
    '_mask': is_prompt | loss_mask,
    '_loss_mask': loss_mask,
    '_log_probs': jnp.where(loss_mask, take(written.log_probs), 0.0),
  }


def check_reward(
  name: str, find_reward: Callable[[str, Mapping[str, Any]], Any]
) -> Callable[[str, Mapping[str, Any]], float]:
  """The reward as a function that refuses what is not a finite number.

  Args:
    name: the task's name in a config.
    find_reward: (answer, record) -> the reward.
  """

  def call(answer: str, record: Mapping[str, Any]) -> float:
    value = find_reward(answer, record)
    if isinstance(value, np.generic):
      value = value.item()
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
      raise ConfigError(
        f'the reward of tasks.{name} is {value!r} for the answer {answer!r:.80}'
        f' to record {record["id"]!r}; return a finite number'
      )
    return float(value)

  return call
