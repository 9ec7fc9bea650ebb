"""Generated conversations, as transformers reads them and as we do."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from mmjax.data import chat_templates, chat_tokenizers, features, preprocess
from tests.data import chat_forms

NUMBER = 300
# What stands in a conversation: its field, what a record stores, and its part
# of a message.
Draw = Callable[[np.random.Generator], tuple[str, bytes, dict[str, Any]]]


def make_records(
  draw: Draw, number: int = NUMBER
) -> Iterator[tuple[list[dict], dict]]:
  """Yields messages as transformers reads them, and the same as our records.

  Args:
    draw: draws an image, a video or a sound.
    number: number of conversations.
  """
  rng = np.random.default_rng(3)
  conversations = chat_forms.make_conversations(number, 11, parts=True)
  for at, messages in enumerate(conversations):
    fields: dict[str, Any] = {'t': []}
    for message in messages:
      parts, content = [], []
      for i in rng.permutation(len(message['content'])):
        part = message['content'][i]
        if part['type'] == 'text':
          content.append(part['text'])
        else:
          field, stored, part = draw(rng)
          content.append({'field': field})
          fields.setdefault(field, []).append(stored)
        parts.append(part)
      message['content'] = parts
      fields['t'].append({'role': message['role'], 'content': content})
    yield messages, {'id': str(at), 'fields': fields, 'metadata': {}}


@dataclasses.dataclass(frozen=True)
class Ours:
  """How records become arrays here.

  Attributes:
    prepare: by a template that says what is learnt.
    unmarked: the conversations' feature, by one that doesn't.
  """

  prepare: preprocess.Preprocessor
  unmarked: features.Turns


def build(
  folder: Path,
  tokenizer: tokenizers.Tokenizer,
  forms: Sequence[str],
  turns: Mapping[str, Any],
  **others: Mapping[str, Any],
) -> Ours:
  """Builds ours from settings of features.

  Args:
    folder: to write to.
    tokenizer: the model's.
    forms: its template with and without `{% generation %}`.
    turns: settings of the feature 't' of conversations.
    **others: those of its images and others.
  """
  both = []
  for name, form in zip(('marked', 'unmarked'), forms, strict=True):
    own = folder / name
    own.mkdir()
    tokenizer.save(str(own / 'tokenizer.json'))
    chat_templates.ChatTemplate({'default': form}, chat_forms.TOKENS).save(own)
    both.append(chat_tokenizers.load(own / 'tokenizer.json'))
  prepare = preprocess.Preprocessor(
    preprocess.build({'t': {'kind': 'turns', **turns}, **others}), both[0]
  )
  return Ours(prepare, prepare['t'].with_tokenizer(both[1]))


def compare(
  processor: Any, messages: list[dict], ours: Ours, record: Mapping
) -> tuple[Mapping, Mapping]:
  """Checks ids, what is learnt and positions by a processor's.

  Returns:
    What the processor makes, and all our arrays.
  """
  want = processor.apply_chat_template(
    messages,
    tokenize=True,
    return_dict=True,
    return_assistant_tokens_mask=True,
  )
  example, feature = ours.prepare(record), ours.unmarked
  unmarked = feature.make_arrays(feature.choose(record, None))
  ids = want['input_ids'][0]
  for arrays in (example, unmarked):
    mask = arrays['t_mask']
    assert mask.sum() == len(ids) < feature.length
    np.testing.assert_array_equal(arrays['t'][mask], ids)
    np.testing.assert_array_equal(
      arrays['t_loss_mask'][mask], want['assistant_masks'][0]
    )
    np.testing.assert_array_equal(
      arrays['t_positions'][mask], np.cumsum(want['attention_mask'][0]) - 1
    )
  return want, example
