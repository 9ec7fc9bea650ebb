"""What OpenAI's chat endpoint is asked for: read and checked."""

import dataclasses
import math
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.decoders import continuous_batching
from mmjax.inference import batching, chat_models

# Numbers: least and most value, and whether they are whole.
_NUMBERS = {
  'temperature': (0, 2, False),
  'top_p': (1e-6, 1, False),
  'top_k': (0, math.inf, True),
  'presence_penalty': (-2, 2, False),
  'frequency_penalty': (-2, 2, False),
  'repetition_penalty': (1e-3, 100, False),
  'seed': (-(2**63), 2**63 - 1, True),
  'n': (1, 64, True),
  'max_tokens': (1, math.inf, True),
  'max_completion_tokens': (1, math.inf, True),
  'top_logprobs': (0, continuous_batching.NUM_LIKELIEST, True),
}
_SAMPLING = tuple(_NUMBERS)[:6]
_TRUTHS = ('stream', 'logprobs')
# Keys that don't change an answer.
_IRRELEVANT = (
  *('metadata', 'prompt_cache_key', 'safety_identifier', 'service_tier'),
  *('store', 'user'),
)
# Keys that change nothing with these values.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
  'function_call': ('none',),
  'functions': ([],),
  'logit_bias': ({},),
  'modalities': (['text'],),
  'parallel_tool_calls': (True, False),
  'response_format': ({'type': 'text'},),
  'tool_choice': ('none', 'auto'),
  'tools': ([],),
}
_OTHERS = ('messages', 'model', 'stop', 'stream_options')
_MOST_STOPS = 16
# Types of parts with a URL.
_URLS = ('image_url', 'video_url')
_MESSAGE_KEYS = ('role', 'content', 'name')


class RequestError(Exception):
  """A refused request.

  Attributes:
    param: the key that is refused, or None.
    code: a name of the error, or None.
    status: HTTP status code of the response.
  """

  def __init__(
    self,
    message: str,
    param: str | None = None,
    code: str | None = None,
    status: int = 400,
  ):
    super().__init__(message)
    self.param, self.code, self.status = param, code, status

  @property
  def content(self) -> dict[str, Any]:
    """The error as OpenAI's API writes one."""
    kind = 'server_error' if self.status >= 500 else 'invalid_request_error'
    return {
      'error': {
        'message': str(self),
        'type': kind,
        'param': self.param,
        'code': self.code,
      }
    }


@dataclasses.dataclass(frozen=True)
class ChatRequest:
  """A legal request, see OpenAI's reference of chat completions.

  Attributes:
    messages: the conversation; images are still URLs.
    sampling: settings that the request names, such as `temperature`.
    seed: the request's, or a random one.
    n: number of answers.
    max_tokens: most tokens of an answer; None for as many as there is room for.
    stop: strings that end an answer.
    num_likeliest: as of `mmjax.inference.batching.Answer`.
    stream: whether answers are sent while they are written.
    include_usage: whether a stream ends with the numbers of tokens.
  """

  messages: Sequence[Mapping[str, Any]]
  sampling: Mapping[str, float]
  seed: int
  n: int = 1
  max_tokens: int | None = None
  stop: tuple[str, ...] = ()
  num_likeliest: int = -1
  stream: bool = False
  include_usage: bool = False

  def find_limit(
    self, prompt: chat_models.PreparedPrompt, model: chat_models.ChatModel
  ) -> int:
    """Most tokens of an answer.

    Raises:
      RequestError: if there is no room for as many as are asked for.
    """
    available = model.max_length - prompt.length
    if self.max_tokens is not None and self.max_tokens > available:
      raise RequestError(
        f'the conversation has {prompt.length} tokens and max_tokens is '
        f'{self.max_tokens}, but the model reads and writes '
        f'{model.max_length} at most; use {available} or fewer',
        'max_tokens',
        'context_length_exceeded',
      )
    return available if self.max_tokens is None else self.max_tokens

  def make_answers(
    self,
    prompt: chat_models.PreparedPrompt,
    model: chat_models.ChatModel,
    notify: Sequence[Any],
  ) -> list[batching.Answer]:
    """The answers to ask an engine for.

    Args:
      prompt: the conversation.
      model: that answers.
      notify: of each answer.
    """
    limit = self.find_limit(prompt, model)
    return [
      batching.Answer(
        prompt,
        batching.make_settings(
          model,
          seed=self.seed,
          number=number,
          max_new_tokens=limit,
          **self.sampling,
        ),
        notify[number],
        self.stop,
        self.num_likeliest,
      )
      for number in range(self.n)
    ]


def parse(asked: Any, name: str, *, allow_http: bool = False) -> ChatRequest:
  """Reads the body of a request.

  Args:
    asked: the JSON value.
    name: of the model that is served.
    allow_http: whether images may be downloaded.

  Raises:
    RequestError: if it is malformed, or asks for what there is not.
  """
  if not isinstance(asked, dict):
    raise RequestError(f'the body is {asked!r:.60}, not an object')
  asked = {key: value for key, value in asked.items() if value is not None}
  _check_keys(asked)
  if asked.get('model') != name:
    raise RequestError(
      f'the model {asked.get("model")!r} does not exist; this server has '
      f'{name!r}',
      'model',
      'model_not_found',
      404,
    )
  numbers = {key: _read_number(asked, key) for key in _NUMBERS if key in asked}
  for key in _TRUTHS:
    if not isinstance(asked.get(key, False), bool):
      raise RequestError(f'{key} is {asked[key]!r:.60}, not a boolean', key)
  if 'top_logprobs' in numbers and not asked.get('logprobs'):
    raise RequestError(
      'top_logprobs is set without logprobs; set logprobs to true',
      'top_logprobs',
    )
  options = asked.get('stream_options', {})
  if not isinstance(options, dict):
    raise RequestError(
      f'stream_options is {options!r:.60}, not an object', 'stream_options'
    )
  limits = [numbers[k] for k in numbers if k in _LIMITS]
  wants_tokens = asked.get('logprobs', False)
  return ChatRequest(
    messages=_read_messages(asked.get('messages'), allow_http),
    sampling={key: numbers[key] for key in _SAMPLING if key in numbers},
    seed=numbers.get('seed', secrets.randbits(31)),
    n=numbers.get('n', 1),
    max_tokens=min(limits) if limits else None,
    stop=_read_stop(asked.get('stop', [])),
    num_likeliest=numbers.get('top_logprobs', 0) if wants_tokens else -1,
    stream=asked.get('stream', False),
    include_usage=bool(options.get('include_usage')),
  )


_LIMITS = ('max_tokens', 'max_completion_tokens')


def _check_keys(asked: Mapping[str, Any]) -> None:
  for key, value in asked.items():
    if key in _NEUTRAL and value not in _NEUTRAL[key]:
      raise RequestError(
        f'{key} is {value!r:.60}, which this server does not do; leave it out',
        key,
        'unsupported_value',
      )
    if key not in (*_NUMBERS, *_TRUTHS, *_IRRELEVANT, *_NEUTRAL, *_OTHERS):
      raise RequestError(
        f'this server does not know {key!r}; leave it out',
        key,
        'unknown_parameter',
      )


def _read_number(asked: Mapping[str, Any], key: str) -> Any:
  value, (least, most, is_whole) = asked[key], _NUMBERS[key]
  kinds = int if is_whole else (int, float)
  is_number = isinstance(value, kinds) and not isinstance(value, bool)
  if not is_number or not least <= value <= most:
    kind = 'a whole number' if is_whole else 'a number'
    raise RequestError(
      f'{key} is {value!r:.60}; use {kind} from {least:g} to {most:g}', key
    )
  return value


def _read_stop(value: Any) -> tuple[str, ...]:
  stop = [value] if isinstance(value, str) else value
  if (
    not isinstance(stop, list)
    or len(stop) > _MOST_STOPS
    or not all(isinstance(one, str) and one for one in stop)
  ):
    raise RequestError(
      f'stop is {value!r:.60}; use a text, or a list of at most {_MOST_STOPS}, '
      'none of them empty',
      'stop',
    )
  return tuple(stop)


def _read_messages(value: Any, allow_http: bool) -> list[dict[str, Any]]:
  """Messages of texts and images, which are not files of this machine."""
  if not isinstance(value, list) or not value:
    raise RequestError(
      f'messages is {value!r:.60}, not a list of one message or more',
      'messages',
    )
  return [
    _read_message(message, f'messages[{i}]', allow_http)
    for i, message in enumerate(value)
  ]


def _read_message(message: Any, where: str, allow_http: bool) -> dict[str, Any]:
  if not isinstance(message, dict) or not isinstance(message.get('role'), str):
    raise RequestError(
      f'{where} is {message!r:.60}, not an object with a role', where
    )
  message = {key: value for key, value in message.items() if value is not None}
  unknown = sorted(set(message) - set(_MESSAGE_KEYS))
  if unknown:
    raise RequestError(
      f'{where} has {unknown[0]!r}, which this server does not read; leave it '
      'out',
      where,
    )
  content = message.get('content')
  if not isinstance(content, str | list):
    raise RequestError(
      f'{where}.content is {content!r:.60}, neither a text nor a list of parts',
      f'{where}.content',
    )
  if isinstance(content, list):
    content = [
      _read_part(part, f'{where}.content[{i}]', allow_http)
      for i, part in enumerate(content)
    ]
  else:
    _check_text(content, f'{where}.content')
  # The newer name of the same role.
  role = 'system' if message['role'] == 'developer' else message['role']
  return {**message, 'role': role, 'content': content}


def _read_part(part: Any, where: str, allow_http: bool) -> dict[str, Any]:
  kind = part.get('type') if isinstance(part, dict) else None
  if kind == 'text' and isinstance(part.get('text'), str):
    _check_text(part['text'], where)
    return {'type': 'text', 'text': part['text']}
  if kind == 'input_audio':
    sound = part.get('input_audio')
    if not isinstance(sound, dict) or not isinstance(sound.get('data'), str):
      raise RequestError(f'{where}.input_audio has no data', where)
    return {'type': kind, kind: {'data': sound['data']}}
  if kind not in _URLS:
    raise RequestError(
      f'{where} is {part!r:.60}, neither a text, an image_url, a video_url nor '
      'an input_audio',
      where,
    )
  url = part.get(kind)
  url = url.get('url') if isinstance(url, dict) else url
  if not isinstance(url, str):
    raise RequestError(f'{where}.{kind} has no url', where)
  is_http = kind == 'image_url' and re.match('https?://', url)
  if url[:5].lower() != 'data:' and not (is_http and allow_http):
    raise RequestError(
      f'{where}: the {kind[:5]} {url:.60} is not loaded; send a data: URL'
      + (', or start the server with --allow_http' if is_http else ''),
      where,
      f'invalid_{kind}',
    )
  return {'type': kind, kind: {'url': url}}


def _check_text(text: str, where: str) -> None:
  """Refuses what is JSON, but not a text."""
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise RequestError(
      f'{where} is not Unicode: {error}; send whole characters', where
    ) from error
