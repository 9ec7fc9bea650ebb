"""The web application of `mmjax serve`: OpenAI's chat endpoint."""

import asyncio
import contextlib
import functools
import ipaddress
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette import (
  applications,
  concurrency,
  exceptions,
  requests,
  responses,
  routing,
)
from starlette.middleware import Middleware, trustedhost

from mmjax.cli import serve_answers, serve_prompts, serve_requests
from mmjax.inference import batching

# Seconds that connections have to end in after Ctrl-C. Requests and answers end
# at once, so only clients that are slow to read need them; the rest of about
# five seconds is for the engine's present step and the end of the process.
_PATIENCE = 2
_LOGGER = logging.getLogger('uvicorn.error')  # That of the server.
_MAX_BYTES = 64 * 1024**2


def make(
  served: serve_answers.Served, host: str = '127.0.0.1'
) -> applications.Starlette:
  """The application; its end closes the engine.

  Args:
    served: the model.
    host: that the server listens to. If it is this machine alone, other sites
      can't reach it through a name that points here.
  """

  @contextlib.asynccontextmanager
  async def lifespan(app: applications.Starlette) -> AsyncIterator[None]:
    del app
    yield
    await concurrency.run_in_threadpool(served.engine.close)

  local = ['127.0.0.1', 'localhost', '::1', '[::1]']
  hosts = local if _is_local(host) else ['*']
  app = applications.Starlette(
    routes=[
      routing.Route('/health', _report_health),
      routing.Route('/v1/models', functools.partial(_list_models, served)),
      routing.Route(
        '/v1/models/{name:path}', functools.partial(_get_model, served)
      ),
      routing.Route(
        '/v1/chat/completions',
        functools.partial(_complete, served),
        methods=['POST'],
      ),
    ],
    exception_handlers={
      serve_requests.RequestError: _reply_with_error,
      **dict.fromkeys(serve_answers.STATUS, _reply_with_error),
      exceptions.HTTPException: _reply_with_error,
      requests.ClientDisconnect: _note_disconnect,
      Exception: _reply_with_error,
    },
    middleware=[
      Middleware(trustedhost.TrustedHostMiddleware, allowed_hosts=hosts)
    ],
    lifespan=lifespan,
  )
  app.state.readers = set()  # Tasks that read requests.
  return app


def run(
  served: serve_answers.Served,
  host: str,
  listener: socket.socket,
  announcement: str,
) -> None:
  """Serves until Ctrl-C or SIGTERM.

  Args:
    served: the model.
    host: that the listener was made for.
    listener: a socket with an address.
    announcement: printed once requests are answered.
  """

  app = make(served, host)

  class Server(uvicorn.Server):
    """Ends requests that are read, and answers that are written, at once."""

    async def startup(self, sockets=None):
      await super().startup(sockets)
      print(announcement, flush=True)

    def handle_exit(self, sig, frame):
      super().handle_exit(sig, frame)
      for task in tuple(app.state.readers):
        task.get_loop().call_soon_threadsafe(task.cancel)
      threading.Thread(target=served.engine.close).start()

  config = uvicorn.Config(
    app,
    log_level='warning',
    timeout_graceful_shutdown=_PATIENCE,
  )
  Server(config).run(sockets=[listener])


def _is_local(host: str) -> bool:
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host == 'localhost'


async def _reply_with_error(
  request: requests.Request, error: Exception
) -> responses.Response:
  """An error as OpenAI's API writes it."""
  del request
  return _make_error_response(error)


async def _note_disconnect(
  request: requests.Request, error: Exception
) -> responses.Response:
  """One line about a client that left before its request was whole."""
  del error
  host = request.client.host if request.client else 'a client'
  _LOGGER.warning('%s left while sending its request', host)
  return responses.Response(status_code=499)  # Nobody gets it.


def _make_error_response(error: Exception) -> responses.Response:
  error = serve_answers.to_request_error(error)
  return responses.JSONResponse(error.content, error.status)


async def _report_health(request: requests.Request) -> responses.Response:
  del request
  return responses.JSONResponse({'status': 'ok'})


def _describe(served: serve_answers.Served) -> dict[str, Any]:
  return {
    'id': served.name,
    'object': 'model',
    'created': served.created,
    'owned_by': 'mmjax',
    'max_model_len': served.model.max_length,
  }


async def _list_models(
  served: serve_answers.Served, request: requests.Request
) -> responses.Response:
  del request
  return responses.JSONResponse({'object': 'list', 'data': [_describe(served)]})


async def _get_model(
  served: serve_answers.Served, request: requests.Request
) -> responses.Response:
  if request.path_params['name'] != served.name:
    raise serve_requests.RequestError(
      f'the model {request.path_params["name"]!r} does not exist; this server '
      f'has {served.name!r}',
      'model',
      'model_not_found',
      404,
    )
  return responses.JSONResponse(_describe(served))


async def _read_json(request: requests.Request) -> Any:
  # Forms of other sites can't have this type.
  kind = request.headers.get('content-type', '').partition(';')[0].strip()
  if kind != 'application/json':
    raise serve_requests.RequestError('send application/json', status=415)
  reading = asyncio.create_task(_read_body(request))
  readers = request.app.state.readers
  readers.add(reading)
  try:
    await asyncio.wait({reading})
    if reading.cancelled():
      raise batching.ClosedError
    body = reading.result()
  finally:
    reading.cancel()
    readers.discard(reading)
  try:
    return json.loads(body)
  except (ValueError, RecursionError) as error:
    raise serve_requests.RequestError(
      f'the body is not JSON: {error}'
    ) from error


async def _read_body(request: requests.Request) -> bytes:
  body = bytearray()
  async for piece in request.stream():
    body += piece
    if len(body) > _MAX_BYTES:
      raise serve_requests.RequestError(
        f'the request is over {_MAX_BYTES >> 20} MiB; send smaller images',
        status=413,
      )
  return bytes(body)


async def _complete(
  served: serve_answers.Served, request: requests.Request
) -> responses.Response:
  asked = serve_requests.parse(
    await _read_json(request), served.name, allow_http=served.allow_http
  )
  if asked.n > served.engine.capacity:
    raise serve_requests.RequestError(
      f'n is {asked.n}, but this server writes at most '
      f'{served.engine.capacity} answers at once; ask for fewer',
      'n',
    )
  prompt = await concurrency.run_in_threadpool(
    serve_prompts.prepare, asked.messages, served.model
  )
  loop = asyncio.get_running_loop()
  events: asyncio.Queue[serve_answers.Event] = asyncio.Queue()

  def notify(number: int, *event: Any) -> None:
    # After the end of the server, nobody listens.
    with contextlib.suppress(RuntimeError):
      loop.call_soon_threadsafe(events.put_nowait, (number, *event))

  answers = asked.make_answers(
    prompt,
    served.model,
    [functools.partial(notify, number) for number in range(asked.n)],
  )
  served.engine.submit(*answers)
  completion = serve_answers.Completion(served, asked, prompt, answers, events)
  if asked.stream:
    return serve_answers.EventStream(completion)
  return await completion.collect(request)
