"""Ids of conversations without a chat template, and arrays of any ids."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import tokenizers
from mmjax.data.features import base


def encode(
  tokenizer: tokenizers.Tokenizer,
  turns: Sequence[tuple[str, Sequence[Any]]],
  media_ids: Mapping[str, Sequence[int]],
  *,
  prompt: bool,
) -> tuple[list[int], list[bool]]:
  """Encodes turns as `ROLE: TEXT<eos>`.

  Args:
    tokenizer: encodes the words.
    turns: the role of each, and its texts; anything else is a part such as
      {'type': 'image'}.
    media_ids: ids that are read for a part, by its type; nobody says them.
    prompt: whether what stands before an answer comes last.

  Returns:
    The ids, and for each whether it is learnt: what the assistant says.
  """
  ids: list[int] = []
  loss_mask: list[bool] = []

  def add(own: Sequence[int], is_learnt: bool) -> None:
    ids.extend(own)
    loss_mask.extend([is_learnt] * len(own))

  for role, items in turns:
    is_learnt = role == 'assistant'
    add(tokenizer.encode_words(f'{role}: '), False)
    for item in items:
      if isinstance(item, str):
        add(tokenizer.encode_words(item), is_learnt)
      else:
        add(media_ids[item['type']], False)
    add([tokenizer.eos_id], is_learnt)
  if prompt:
    add(tokenizer.encode_words('assistant: '), False)
  return ids, loss_mask


def make_arrays(
  name: str,
  ids: Sequence[int],
  loss_mask: Sequence[bool],
  length: int,
  packed: bool,
) -> base.Example:
  """Makes the arrays of ids, cut to a length.

  Args:
    name: name of the conversation's feature.
    ids: its ids.
    loss_mask: bool for each of them.
    length: T.
    packed: whether conversations share a row.

  Returns:
    `NAME` int32 [T], `NAME_mask` and `NAME_loss_mask` bool [T]; packed also
    `NAME_segments` and `NAME_positions` int32 [T].
  """
  ids, loss_mask = ids[:length], loss_mask[:length]
  array = np.full(length, 0, np.int32)
  array[: len(ids)] = ids
  is_learnt = np.zeros(length, np.bool_)
  is_learnt[: len(loss_mask)] = loss_mask
  is_learnt[0] = False  # Nothing is before it to predict it from.
  mask = np.arange(length) < len(ids)
  example = {name: array, f'{name}_mask': mask, f'{name}_loss_mask': is_learnt}
  if packed:
    positions = np.where(mask, np.arange(length), 0)
    example[f'{name}_segments'] = mask.astype(np.int32)
    example[f'{name}_positions'] = positions.astype(np.int32)
  return example


def join(
  name: str, examples: Sequence[base.Example], blank: base.Example
) -> base.Example:
  """Joins conversations; segments count on, and positions restart.

  Args:
    name: name of the conversations' feature.
    examples: all arrays of each conversation.
    blank: the arrays of none.
  """
  out = {key: np.zeros_like(array) for key, array in blank.items()}
  start = 0
  for number, example in enumerate(examples, 1):
    size = int(example[f'{name}_mask'].sum())
    for key, array in out.items():
      array[start : start + size] = example[key][:size]
    out[f'{name}_segments'][start : start + size] = number
    start += size
  return out
