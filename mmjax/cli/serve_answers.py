"""Answers of `mmjax serve` in OpenAI's form: whole, or as a stream."""

import asyncio
import dataclasses
import json
import math
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from starlette import exceptions, requests, responses

from mmjax.cli import serve_requests
from mmjax.errors import ConfigError
from mmjax.inference import batching, chat_models

# Of a token that can't be written; JSON has no infinities.
_LEAST_LOG_PROB = -9999.0
# Of errors that are not the request's.
STATUS = {batching.FullError: 429, batching.ClosedError: 503}
# (number of the answer, text, tokens, why it ends or None).
Event = tuple[int, str, list[batching.Token], Any]


@dataclasses.dataclass(frozen=True)
class Served:
  """The model of a server.

  Attributes:
    name: name, as requests name it.
    model: that answers.
    engine: that writes its answers.
    allow_http: whether images may be downloaded.
    created: when the server started, in seconds since the epoch.
  """

  name: str
  model: chat_models.ChatModel
  engine: batching.Engine
  allow_http: bool = False
  created: int = dataclasses.field(default_factory=lambda: int(time.time()))


@dataclasses.dataclass
class Completion:
  """The answers to one request, on their way to its sender.

  Attributes:
    served: the model.
    asked: the request.
    prompt: its conversation.
    answers: those that the engine writes.
    events: what it has written of them.
  """

  served: Served
  asked: serve_requests.ChatRequest
  prompt: chat_models.PreparedPrompt
  answers: list[batching.Answer]
  events: asyncio.Queue

  def __post_init__(self):
    self._shared = {
      'id': f'chatcmpl-{uuid.uuid4().hex}',
      'created': int(time.time()),
      'model': self.served.name,
    }

  @property
  def usage(self) -> dict[str, int]:
    """Numbers of tokens."""
    written = sum(answer.num_tokens for answer in self.answers)
    return {
      'prompt_tokens': self.prompt.length,
      'completion_tokens': written,
      'total_tokens': self.prompt.length + written,
    }

  def cancel(self) -> None:
    """Says that what is not written yet is not needed."""
    for answer in self.answers:
      answer.cancelled = True

  async def _follow(self) -> AsyncIterator[Event]:
    """Events until all answers have ended; cancels them if it is left.

    Raises:
      Exception: that ended an answer.
    """
    left = len(self.answers)
    try:
      while left:
        event = await self.events.get()
        if isinstance(event[-1], Exception):
          raise event[-1]
        left -= event[-1] is not None
        yield event
    finally:
      self.cancel()

  async def collect(self, request: requests.Request) -> responses.Response:
    """The whole answers; nothing more is written if the sender is gone."""
    finishing = asyncio.create_task(self._collect())
    leaving = asyncio.create_task(_wait_until_gone(request))
    try:
      await asyncio.wait(
        {finishing, leaving}, return_when=asyncio.FIRST_COMPLETED
      )
      if not finishing.done():
        return responses.Response(status_code=499)  # Nobody gets it.
      return finishing.result()
    finally:
      for task in (finishing, leaving):
        task.cancel()
      self.cancel()

  async def _collect(self) -> responses.Response:
    texts = [''] * len(self.answers)
    tokens: list[list[Any]] = [[] for _ in self.answers]
    ends = [''] * len(self.answers)
    async for number, text, new, end in self._follow():
      texts[number] += text
      tokens[number] += new
      ends[number] = end or ''
    choices = [
      {
        'index': number,
        'message': {'role': 'assistant', 'content': text, 'refusal': None},
        'finish_reason': ends[number],
        'logprobs': self._write_log_probs(tokens[number]),
      }
      for number, text in enumerate(texts)
    ]
    return responses.JSONResponse(
      {
        **self._shared,
        'object': 'chat.completion',
        'choices': choices,
        'usage': self.usage,
      }
    )

  async def stream(self) -> AsyncIterator[str]:
    """Server-sent events, one for each piece of an answer."""
    start = {'role': 'assistant', 'content': ''}
    for number in range(len(self.answers)):
      yield self._write_chunk(number, start)
    follow = self._follow()
    try:
      async for number, text, tokens, end in follow:
        if text or tokens:
          yield self._write_chunk(number, {'content': text}, tokens)
        if end:
          yield self._write_chunk(number, {}, end=end)
    except Exception as error:  # The response has begun.
      yield _write_event(to_request_error(error).content)
      return
    finally:
      await follow.aclose()
    if self.asked.include_usage:
      yield self._write_event_of([], usage=self.usage)
    yield 'data: [DONE]\n\n'

  def _write_chunk(
    self,
    number: int,
    delta: dict[str, Any],
    tokens: Any = (),
    end: str | None = None,
  ) -> str:
    choice = {'index': number, 'delta': delta, 'finish_reason': end}
    choice['logprobs'] = self._write_log_probs(tokens) if tokens else None
    return self._write_event_of([choice])

  def _write_event_of(self, choices: list[Any], **more: Any) -> str:
    kind = {'object': 'chat.completion.chunk'}
    return _write_event({**self._shared, **kind, 'choices': choices, **more})

  def _write_log_probs(self, tokens: Any) -> dict[str, Any] | None:
    if self.asked.num_likeliest < 0:
      return None
    content = [
      {
        **self._write_token(token.id, token.log_prob),
        'top_logprobs': [self._write_token(*pair) for pair in token.likeliest],
      }
      for token in tokens
    ]
    return {'content': content, 'refusal': None}

  def _write_token(self, token_id: int, log_prob: float) -> dict[str, Any]:
    text = self.served.model.decode_token(token_id)
    return {
      'token': text,
      'logprob': log_prob if math.isfinite(log_prob) else _LEAST_LOG_PROB,
      'bytes': list(text.encode()),
    }


def _write_event(value: Any) -> str:
  return f'data: {json.dumps(value)}\n\n'


async def _wait_until_gone(request: requests.Request) -> None:
  while (await request.receive())['type'] != 'http.disconnect':
    pass


class EventStream(responses.StreamingResponse):
  """A completion as server-sent events; its end cancels what is unfinished."""

  def __init__(self, completion: Completion):
    super().__init__(
      completion.stream(),
      media_type='text/event-stream',
      headers={'Cache-Control': 'no-store'},
    )
    self._completion = completion

  async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
    try:
      await super().__call__(scope, receive, send)
    finally:
      # Also if nothing has been sent.
      self._completion.cancel()


def to_request_error(error: Exception) -> serve_requests.RequestError:
  """What a client learns of an error."""
  if isinstance(error, serve_requests.RequestError):
    return error
  if isinstance(error, exceptions.HTTPException):
    return serve_requests.RequestError(error.detail, status=error.status_code)
  if isinstance(error, ConfigError):
    return serve_requests.RequestError(str(error), 'messages')
  if type(error) in STATUS:
    return serve_requests.RequestError(str(error), status=STATUS[type(error)])
  return serve_requests.RequestError(
    f'the server failed: {type(error).__name__}', status=500
  )
