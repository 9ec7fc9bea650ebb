"""The prompts of requests: their images loaded, their texts written."""

import io
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import PIL.Image

from mmjax.cli import serve_requests
from mmjax.errors import ConfigError
from mmjax.inference import chat_models

# No token of a published model has more characters.
_MOST_CHARACTERS = 256
# Of an image that is downloaded.
_MOST_BYTES, _SECONDS = 32 * 1024**2, 10


def _check_length(messages: Sequence[Mapping[str, Any]], most: int) -> None:
  """Refuses texts that are too long, before their tokens are counted."""
  number = 0
  for message in messages:
    content = message['content']
    parts = [content] if isinstance(content, str) else content
    for part in parts:
      number += len(part if isinstance(part, str) else part.get('text', ''))
  if number > most * _MOST_CHARACTERS:
    raise serve_requests.RequestError(
      f'the conversation has {number} characters, too many for the {most} '
      'tokens that the model reads and writes; send a shorter one',
      'messages',
      'context_length_exceeded',
    )


def load_images(
  messages: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
  """Downloads the images of messages that are not in them.

  Raises:
    serve_requests.RequestError: if one can't be had.
  """
  out = []
  for message in messages:
    content = message['content']
    if isinstance(content, list):
      content = [_load_part(part) for part in content]
    out.append({**message, 'content': content})
  return out


def _load_part(part: Mapping[str, Any]) -> Mapping[str, Any]:
  url = part.get('image_url', {}).get('url', '')
  if not url.startswith('http'):
    return part
  try:
    with urllib.request.urlopen(url, timeout=_SECONDS) as response:
      content = response.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
      raise ValueError(f'it is over {_MOST_BYTES >> 20} MiB')
    image = PIL.Image.open(io.BytesIO(content))
    image.load()
  except (
    *(OSError, SyntaxError, ValueError, urllib.error.URLError),
    PIL.Image.DecompressionBombError,
  ) as error:
    raise serve_requests.RequestError(
      f'the image {url:.60} cannot be loaded: {error}',
      'messages',
      'invalid_image_url',
    ) from error
  return {'type': 'image', 'image': image}


def prepare(
  messages: Sequence[Mapping[str, Any]], model: chat_models.ChatModel
) -> chat_models.PreparedPrompt:
  """Makes the prompt of messages.

  Raises:
    serve_requests.RequestError: if the model, or its template, refuses them.
  """
  _check_length(messages, model.max_length)
  try:
    return model.prepare(load_images(messages))
  except chat_models.PromptTooLongError as error:
    raise serve_requests.RequestError(
      str(error), 'messages', 'context_length_exceeded'
    ) from error
  except ConfigError as error:
    raise serve_requests.RequestError(str(error), 'messages') from error
