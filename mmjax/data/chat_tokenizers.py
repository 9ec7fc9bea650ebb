"""Tokenizers of chat models: ids of texts, and of whole conversations."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers as tokenizers_lib

from mmjax.data import chat_ids, chat_templates, tokenizers
from mmjax.data.chat_templates import ChatTemplate, Message


class ChatTokenizer(tokenizers.Tokenizer):
  """A tokenizer with the chat template that its model was trained with.

  The names of special tokens become these only where a conversation is written
  by the template, as in transformers.

  Attributes:
    template: the chat template.
  """

  template: ChatTemplate

  def __init__(
    self,
    tokenizer: tokenizers_lib.Tokenizer,
    template: ChatTemplate,
    **specials: Any,
  ):
    """Wraps a tokenizer of the library `tokenizers`."""
    super().__init__(tokenizer, **specials)
    self.template = template
    self._chat = tokenizers_lib.Tokenizer.from_str(tokenizer.to_str())
    self._chat.no_padding()
    self._chat.no_truncation()

  @classmethod
  def wrap(
    cls,
    tokenizer: tokenizers.Tokenizer,
    folder: Path,
    *,
    lower_case: bool = False,
  ) -> tokenizers.Tokenizer | Self:
    """Adds the chat template of a folder to its tokenizer, if it has one.

    Args:
      tokenizer: tokenizer, as `Tokenizer.load` reads it.
      folder: folder of its tokenizer.json.
      lower_case: whether texts are lower-cased first.
    """
    path = folder / 'tokenizer.json'
    if not path.is_file():
      return tokenizer
    names = {'bos': tokenizer.bos_id, 'eos': tokenizer.eos_id}
    names['pad'] = tokenizer.pad_id
    library = tokenizers_lib.Tokenizer.from_file(os.fspath(path))
    token = {
      f'{role}_token': library.id_to_token(token_id)
      for role, token_id in names.items()
      if token_id is not None
    }
    template = chat_templates.load(folder, token)
    if template is None:
      return tokenizer
    if lower_case:
      library = tokenizers.add_lower_case(library)
    return cls(
      library,
      template,
      pad=token['pad_token'],
      bos=tokenizer.bos_id,
      eos=token['eos_token'],
    )

  def encode_chat(
    self, messages: Sequence[Message], **settings: Any
  ) -> chat_ids.EncodedConversation:
    """Encodes a conversation by the template, as `chat_ids.encode` does."""
    return chat_ids.encode(self._chat, self.template, messages, **settings)

  @functools.cached_property
  def end_ids(self) -> tuple[int, ...]:
    """Ids that end what the assistant writes: of its turn, and of a text."""
    ends = chat_ids.find_end(self._chat, self.template)
    return tuple(dict.fromkeys([*ends, self.eos_id]))

  def save(self, path: str | os.PathLike) -> None:
    """Writes tokenizer.json, and the files of the template beside it.

    The tokenizer is written as it came, for `wrap` reads it again.
    """
    self._chat.save(os.fspath(path))
    self.template.save(Path(path).parent)


def load(
  path: str | os.PathLike,
  *,
  bos: str | int | None = None,
  lower_case: bool = False,
) -> tokenizers.Tokenizer:
  """Reads a tokenizer.json, with the chat template beside it if there is one.

  Args:
    path: path of the file.
    bos: name, or id, of the token that starts a text that the model writes.
    lower_case: whether texts are lower-cased first.

  Raises:
    ConfigError: as `Tokenizer.load` does, or if the template's file is broken.
  """
  tokenizer = tokenizers.Tokenizer.load(path, bos=bos, lower_case=lower_case)
  folder = Path(path).parent
  if Path(path).name != 'tokenizer.json':
    return tokenizer
  return ChatTokenizer.wrap(tokenizer, folder, lower_case=lower_case)


def decode_answer(
  tokenizer: tokenizers.Tokenizer, ids: Sequence[int] | np.ndarray
) -> str:
  """Decodes what the assistant wrote, up to the token that ends its turn."""
  row = [int(i) for i in ids]
  ends = get_end_ids(tokenizer)
  first = next((at for at, i in enumerate(row) if i in ends), len(row))
  return tokenizer.decode(row[:first]).strip()


def get_end_ids(tokenizer: tokenizers.Tokenizer) -> tuple[int, ...]:
  """Ids that end what the assistant writes."""
  if isinstance(tokenizer, ChatTokenizer):
    return tokenizer.end_ids
  return (tokenizer.eos_id,)
