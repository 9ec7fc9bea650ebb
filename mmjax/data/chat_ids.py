"""Conversations as ids of a tokenizer, and which of them the assistant says."""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import Any

import tokenizers

from mmjax.data import template_engine
from mmjax.data.chat_templates import ChatTemplate, Message
from mmjax.errors import ConfigError

# Stands for an answer while its place is looked for; no template changes it.
_STAND_IN = '\ufdd2answer\ufdd2'
_RESERVED = (
  template_engine.OPENING,
  template_engine.CLOSING,
  _STAND_IN[0],
)

Span = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class EncodedConversation:
  """A conversation as a model reads it.

  Attributes:
    text: the whole text.
    ids: ids of its tokens.
    loss_mask: for each token, whether the assistant says it.
    offsets: where each token begins and ends in the text, in characters.
  """

  text: str
  ids: tuple[int, ...]
  loss_mask: tuple[bool, ...]
  offsets: tuple[Span, ...]


def encode(
  tokenizer: tokenizers.Tokenizer,
  template: ChatTemplate,
  messages: Sequence[Message],
  *,
  completes: bool = False,
  image: tuple[str, str] | None = None,
  **settings: Any,
) -> EncodedConversation:
  """Writes a conversation by a template, as ids, and finds what is learnt.

  The assistant says what a template has between `{% generation %}` and
  `{% endgeneration %}`. In a template without these, it says the content of
  the assistant's turns, and the special token behind each, which ends the turn;
  also what only white space separates from it. A token belongs to it if any of
  its characters does, as in transformers.

  Args:
    tokenizer: the model's.
    template: the model's.
    messages: the conversation.
    completes: whether the tokenizer adds its first and last tokens, unless the
      text begins with the first one. In transformers, processors of images
      and texts do so, and tokenizers don't.
    image: what the template writes for an image, and what is read in its place,
      of which nothing is learnt; None to read what the template writes.
    **settings: arguments of `ChatTemplate.render`.

  Raises:
    ConfigError: as `ChatTemplate.render` does; or if the place of an answer
      in the text can't be found.
  """
  text, spans, is_marked = _find_spans(template, messages, **settings)
  images = []
  if image:
    text, spans, images = _write_images(text, spans, *image)
  adds = completes and not begins_whole(tokenizer, text)
  encoding = tokenizer.encode(text, add_special_tokens=adds)
  offsets = encoding.offsets
  if not is_marked:
    added = set(tokenizer.get_added_tokens_decoder())
    ends = [
      offset
      for token_id, offset in zip(encoding.ids, offsets, strict=True)
      if token_id in added
    ]
    spans = [_extend(text, span, ends) for span in spans]
  loss_mask, at = [], 0
  for begin, end in offsets:
    while at < len(spans) and begin >= spans[at][1]:
      at += 1
    is_said = at < len(spans) and end > spans[at][0]
    loss_mask.append(
      is_said
      and not any(begin < last and first < end for first, last in images)
    )
  return EncodedConversation(
    text, tuple(encoding.ids), tuple(loss_mask), tuple(offsets)
  )


def begins_whole(tokenizer: tokenizers.Tokenizer, text: str) -> bool:
  """Whether a text begins with the token that the tokenizer adds first."""
  first = tokenizer.encode('').ids[:1]
  name = tokenizer.id_to_token(first[0]) if first else None
  return name is not None and text.startswith(name)


def find_end(
  tokenizer: tokenizers.Tokenizer, template: ChatTemplate
) -> tuple[int, ...]:
  """The id that ends the assistant's turn; none if the template writes none."""
  messages = [
    {'role': role, 'content': template.make_content(['a'])}
    for role in ('user', 'assistant')
  ]
  written = encode(tokenizer, template, messages)
  said = [
    token_id
    for token_id, is_learnt in zip(written.ids, written.loss_mask, strict=True)
    if is_learnt
  ]
  added = tokenizer.get_added_tokens_decoder()
  return tuple(token_id for token_id in said[-1:] if token_id in added)


def _write_images(
  text: str, spans: Sequence[Span], mark: str, written: str
) -> tuple[str, list[Span], list[Span]]:
  """Writes what is read for each image; returns where spans and images are.

  With the mark 'i', written as '[i]', 'aib' and the span (2, 3) of 'b' become
  'a[i]b', the span (4, 5), and (1, 4) of the image.
  """
  grown = len(written) - len(mark)
  spans = [
    tuple(at + grown * text.count(mark, 0, at) for at in span) for span in spans
  ]
  pieces = text.split(mark)
  ends = itertools.accumulate(
    len(piece) + len(written) for piece in pieces[:-1]
  )
  images = [(end - len(written), end) for end in ends]
  return written.join(pieces), spans, images


def _extend(text: str, span: Span, ends: Sequence[Span]) -> Span:
  """A span with the special token behind it, if only space is between."""
  begin, end = span
  for first, last in ends:
    if first >= end:
      is_next = not text[end:first].strip()
      return (begin, last) if is_next else span
  return span


def _find_spans(
  template: ChatTemplate, messages: Sequence[Message], **settings: Any
) -> tuple[str, list[Span], bool]:
  """The text, where the assistant speaks, and whether the template says so."""
  source = template.choose(settings.get('name'), settings.get('tools'))
  is_marked = 'endgeneration' in source
  text = template.render(messages, marks=is_marked, **settings)
  _refuse_reserved(messages)
  if is_marked:
    return *_cut_marks(text, template.file), True
  answers = [
    number
    for number, message in enumerate(messages)
    if message['role'] == 'assistant'
  ]
  spans = [
    span
    for number in answers
    if (span := _find_answer(template, messages, number, text, settings))
  ]
  return text, spans, False


def _refuse_reserved(messages: Sequence[Message]) -> None:
  for number, message in enumerate(messages, 1):
    text = json.dumps(dict(message), ensure_ascii=False)
    for code in _RESERVED:
      if code in text:
        raise ConfigError(
          f'turn {number} ({message["role"]}) has the code point '
          f'U+{ord(code):04X}, which Unicode does not use for text; remove it'
        )


def _cut_marks(marked: str, file: str) -> tuple[str, list[Span]]:
  """Takes marks out of a text; returns the spans between them.

  With [ and ] as the marks, 'a[bc]d' becomes 'abcd' and the span (1, 3).
  """
  text, *rest = marked.split(template_engine.OPENING)
  spans, is_whole = [], True
  for piece in rest:
    inside, closing, behind = piece.partition(template_engine.CLOSING)
    is_whole &= bool(closing)
    spans.append((len(text), len(text) + len(inside)))
    text += inside + behind
  if not is_whole or template_engine.CLOSING in text:
    raise ConfigError(
      f'{file}: the blocks {{% generation %}} of the chat template overlap, '
      'or it cuts them; repair it'
    )
  return text, spans


def _find_answer(
  template: ChatTemplate,
  messages: Sequence[Message],
  number: int,
  text: str,
  settings: dict[str, Any],
) -> Span | None:
  """Where the content of a turn stands; None if the template leaves it out.

  The turn's content is replaced by a stand-in: what is before and behind it
  there is before and behind the content in the text. This also holds where the
  template strips the content, or writes turns otherwise because others follow.

  Raises:
    ConfigError: if it can't be found.
  """
  message = messages[number]
  content = message.get('content')
  if content is None:
    raise ConfigError(
      f'turn {number + 1} ({message["role"]}) has no content, such as a call '
      'of a tool alone; what is learnt of it is known only of a template with '
      '{% generation %}'
    )
  stand_in = (
    [{'type': 'text', 'text': _STAND_IN}]
    if isinstance(content, list)
    else _STAND_IN
  )
  replaced = [*messages]
  replaced[number] = {**message, 'content': stand_in}
  before, *behind = template.render(replaced, **settings).split(_STAND_IN)
  if not behind:
    return None
  if len(behind) == 1 and text.endswith(behind[0]):
    end = len(text) - len(behind[0])
    if text.startswith(before) and end >= len(before):
      return len(before), end
    # A template that writes more before this content, such as a thought; a
    # prompt that ends in an empty thought is none of its own.
    for thinking in ({}, {'enable_thinking': True}) if number else ():
      own = {**settings, **thinking, 'add_generation_prompt': True}
      prompt = template.render(messages[:number], **own)
      if text.startswith(prompt) and end >= len(prompt):
        return len(prompt), end
  if not content or content == [{'type': 'text', 'text': ''}]:
    return None
  raise ConfigError(
    f'turn {number + 1} ({message["role"]}): the chat template of '
    f'{template.file} writes its content so that it cannot be found in the '
    'text; put {% generation %} and {% endgeneration %} around it there'
  )
