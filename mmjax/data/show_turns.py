"""Shows conversations token by token, with what is learnt of them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.text

from mmjax.data import chat_tokenizers, features, records, sources
from mmjax.errors import ConfigError

_LEARNT = 'bold green'
_BETWEEN = '\u2502'


def iterate_shown(
  source: sources.Source,
  tokenizer: str | os.PathLike | None = None,
  rows: int = 3,
) -> Iterator[rich.text.Text]:
  """Yields the first conversations of a split, for a terminal.

  Args:
    source: its records; nothing is shown if no field is of the kind turns.
    tokenizer: path of a tokenizer.json, whose folder may have a chat template;
      None for the data set's own.
    rows: number of records.

  Raises:
    ConfigError: if there is no tokenizer, or its template refuses a
      conversation.
  """
  names = [name for name, kind in source.kinds.items() if kind == 'turns']
  if not names:
    if tokenizer is not None:
      raise ConfigError(
        f'--tokenizer={tokenizer} is for conversations, but no field is of the '
        f'kind turns; there are {", ".join(source.kinds)}'
      )
    return
  path = tokenizer or Path(source.folder) / records.TOKENIZER_FILE
  opened = chat_tokenizers.load(path)
  for index in range(min(rows, len(source))):
    record = source.read_small(index)
    for name in names:
      feature = features.Turns(name=name, tokenizer=opened)
      value = feature.get(record)
      if value is not None:
        title = f'{record["id"]}, {name}: '
        yield draw_tokens(feature, value, title)


def draw_tokens(
  feature: features.Turns, value: Sequence[Mapping[str, Any]], title: str
) -> rich.text.Text:
  """Draws the tokens of a conversation, those that are learnt in green."""
  tokens = feature.spell(value)
  number = sum(is_learnt for _, is_learnt in tokens)
  drawn = rich.text.Text(f'{title}{len(tokens)} tokens, {number} learnt\n')
  for text, is_learnt in tokens:
    drawn.append(text.replace('\n', '\\n'), style=_LEARNT if is_learnt else '')
    drawn.append(_BETWEEN, style='dim')
  return drawn
