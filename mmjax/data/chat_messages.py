"""Messages of conversations, apart from the images and sounds in them."""

import base64
import binascii
import dataclasses
import io
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import PIL.Image

from mmjax.data import video_files
from mmjax.data.chat_templates import ChatTemplate, Message
from mmjax.errors import ConfigError

_DATA = {
  kind: re.compile(rf'data:{kind}/[\w.+-]+;base64,', re.IGNORECASE)
  for kind in ('image', 'video', 'audio')
}
_KINDS = {
  'image': 'image',
  'image_url': 'image',
  'video': 'video',
  'video_url': 'video',
  'audio': 'audio',
  'audio_url': 'audio',
  'input_audio': 'audio',
}
_SOURCES = ('url', 'path')
_WORDS = {'image': 'an image', 'video': 'a video', 'audio': 'a sound'}
_EXAMPLES = {'image': 'image/png', 'video': 'video/mp4', 'audio': 'audio/wav'}
_BASE64_SOUND = 'data:audio/wav;base64,'


@dataclasses.dataclass(frozen=True)
class Separated:
  """A conversation whose images, videos and sounds are taken out.

  Attributes:
    messages: the messages; a content is a list of texts and of parts such as
      {'type': 'image'}.
    media: the images, videos and sounds, in their order: paths of files, Pillow
      images, arrays, bytes of sounds, or a `VideoFile`.
  """

  messages: tuple[dict[str, Any], ...]
  media: tuple[Any, ...]

  def fit(self, template: ChatTemplate) -> list[dict[str, Any]]:
    """The messages in the form that a template reads.

    Raises:
      ConfigError: if it reads no images; it names the turn.
    """
    out = []
    for number, message in enumerate(self.messages, 1):
      if 'content' not in message:
        out.append(message)
        continue
      try:
        content = template.make_content(message['content'])
      except ConfigError as error:
        raise ConfigError(f'turn {number}: {error}') from error
      out.append({**message, 'content': content})
    return out


def separate(messages: Sequence[Message]) -> Separated:
  """Takes images, videos and sounds out of messages in the form of OpenAI's.

  A content is a text, or a list of texts, {'type': 'text', 'text': ...},
  {'type': 'image', 'image': ...} (or `url` or `path` instead of `image`),
  {'type': 'video', 'video': ...}, {'type': 'audio', 'audio': ...}, {'type':
  'image_url', 'image_url': {'url': ...}}, the same with `video_url`, and
  {'type': 'input_audio', 'input_audio': {'data': ...}} with base64. Images are
  files, Pillow images, arrays, or 'data:' URLs; so are videos and sounds,
  without Pillow.

  Raises:
    ConfigError: for another part, or an image that isn't there or is to be
      downloaded; it names the turn.
  """
  if isinstance(messages, str | Mapping) or not messages:
    raise ConfigError(
      f'a conversation is a list of messages, not {messages!r:.60}'
    )
  out, media = [], []
  for number, message in enumerate(messages, 1):
    if not isinstance(message, Mapping) or 'role' not in message:
      raise ConfigError(
        f'turn {number} is {message!r:.80}, not an object with a role'
      )
    content = message.get('content')
    if content is None:
      out.append(dict(message))
      continue
    parts = [content] if isinstance(content, str) else content
    if not isinstance(parts, list | tuple):
      raise ConfigError(
        f'turn {number} has the content {content!r:.80}, neither a text nor a '
        'list of parts'
      )
    items = []
    for part in parts:
      item, source = _read_part(part, number)
      items.append(item)
      media += [] if source is None else [source]
    out.append({**message, 'content': items})
  return Separated(tuple(out), tuple(media))


def check_options(options: Sequence[str]) -> list[str]:
  """Answers to choose from.

  Raises:
    ConfigError: for none, or one twice.
  """
  options = list(options)
  if not options or len(set(options)) < len(options):
    raise ConfigError(
      f'options={options} should be one answer or more, each once'
    )
  return options


def _read_part(part: Any, number: int) -> tuple[str | dict[str, str], Any]:
  """A text, or a part without its image; and the image."""
  if isinstance(part, str):
    return part, None
  if not isinstance(part, Mapping):
    raise ConfigError(f'turn {number} has the part {part!r:.80}, not an object')
  kind = part.get('type')
  if kind == 'text' and isinstance(part.get('text'), str):
    return part['text'], None
  if kind not in _KINDS:
    raise ConfigError(
      f'turn {number} has a part of the type {kind!r}; use text, '
      f'{", ".join(_KINDS)}'
    )
  source = next(
    (part[key] for key in (kind, *_SOURCES) if part.get(key) is not None), None
  )
  if isinstance(source, Mapping) and kind == 'input_audio':
    data = source.get('data')
    source = None if data is None else f'{_BASE64_SOUND}{data}'
  elif isinstance(source, Mapping):
    source = source.get('url')
  if source is None:
    raise ConfigError(
      f'turn {number} has a part of the type {kind} without the {kind} itself; '
      f"write {{'type': {kind!r}, {kind!r}: 'FILE'}}"
    )
  return {'type': _KINDS[kind]}, _open_url(source, _KINDS[kind], number)


def _open_url(source: Any, kind: str, number: int) -> Any:
  """Decodes a 'data:' URL; refuses others, which are not names of files."""
  if kind == 'video' and isinstance(source, bytes | os.PathLike):
    return video_files.VideoFile(source)
  if not isinstance(source, str):
    return source
  match = _DATA[kind].match(source)
  if match:
    return _decode(source[match.end() :], kind, number)
  if source[:5].lower() == 'data:':
    raise ConfigError(
      f'turn {number}: {source!r:.60} is not the data: URL of '
      f'{_WORDS[kind]}; write '
      f'data:{_EXAMPLES[kind]};base64,... with its bytes'
    )
  if re.match(r'\w+://', source) and not source.startswith('file://'):
    raise ConfigError(
      f'turn {number}: {source:.80} is not downloaded; save it, and give the '
      "file's path"
    )
  path = source.removeprefix('file://')
  return video_files.VideoFile(path) if kind == 'video' else path


def _decode(text: str, kind: str, number: int) -> Any:
  """The image of a text of base64, a video, or the bytes of a sound."""
  try:
    data = base64.b64decode(text, validate=True)
    if kind == 'audio':
      return data
    if kind == 'video':
      return video_files.VideoFile(data)
    image = PIL.Image.open(io.BytesIO(data))
    image.load()
  except (
    *(binascii.Error, OSError, SyntaxError, ValueError),
    PIL.Image.DecompressionBombError,
  ) as error:
    raise ConfigError(
      f'turn {number}: the data: URL is not {_WORDS[kind]}: {error}'
    ) from error
  return image
