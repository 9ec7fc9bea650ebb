"""The web application of `mmjax demo`: one page and three addresses."""

import base64
import functools
import io
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
from starlette import applications, concurrency, requests, responses, routing
from starlette.middleware import Middleware, trustedhost

from mmjax.errors import ConfigError
from mmjax.inference import demo as demo_lib

_PAGE = pathlib.Path(__file__).parent / 'demo_page'
_TYPES = {
  'index.html': 'text/html',
  'page.css': 'text/css',
  'page.js': 'text/javascript',
}
# The page may load from itself alone, whatever a file or a model's text holds.
_HEADERS = {
  'Content-Security-Policy': "default-src 'none'; script-src 'self'; "
  "style-src 'self'; img-src 'self' blob: data:; media-src blob:; "
  "connect-src 'self'; base-uri 'none'; form-action 'none'",
  'Cache-Control': 'no-store',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
}
_MAX_BYTES = 256 * 1024**2


def make(demo: demo_lib.Demo) -> applications.Starlette:
  """The application: / is the page, /models, /answer and /search its data.

  Args:
    demo: the models.
  """

  def models(request: requests.Request) -> responses.Response:
    del request
    return responses.JSONResponse(demo.describe(), headers=_HEADERS)

  return applications.Starlette(
    routes=[
      *(
        routing.Route(
          '/' if name == 'index.html' else f'/{name}',
          functools.partial(_send_file, name=name),
        )
        for name in _TYPES
      ),
      routing.Route('/models', models),
      routing.Route(
        '/answer',
        _make_endpoint(functools.partial(_parse_answer, demo)),
        methods=['POST'],
      ),
      routing.Route(
        '/search',
        _make_endpoint(functools.partial(_parse_search, demo)),
        methods=['POST'],
      ),
    ],
    # Other sites can't reach it through a name that points here.
    middleware=[
      Middleware(
        trustedhost.TrustedHostMiddleware,
        allowed_hosts=['127.0.0.1', 'localhost'],
      )
    ],
  )


async def _send_file(
  request: requests.Request, name: str
) -> responses.Response:
  del request
  content = (_PAGE / name).read_bytes()
  return responses.Response(content, media_type=_TYPES[name], headers=_HEADERS)


def _parse_answer(
  demo: demo_lib.Demo, asked: dict[str, Any]
) -> Callable[[], Any]:
  inputs = {
    name: _read_file(value) if isinstance(value, dict) else str(value)
    for name, value in asked['inputs'].items()
  }
  texts = [str(text) for text in asked['texts']]
  model, task = str(asked['model']), str(asked['task'])

  def answer() -> dict[str, Any]:
    found = demo.answer(model, task, inputs, texts)
    drawings = [
      {'image': None if image is None else _make_address(image), 'lines': below}
      for image, below in found.drawings
    ]
    return {'lines': found.lines, 'drawings': drawings}

  return answer


def _parse_search(
  demo: demo_lib.Demo, asked: dict[str, Any]
) -> Callable[[], Any]:
  images = [_read_file(value) for value in asked['images']]
  model, query = str(asked['model']), str(asked['query'])
  return lambda: {'found': demo.search(model, query, images)}


def _make_address(image: np.ndarray) -> str:
  """The address of an image that a page can show as it stands."""
  stream = io.BytesIO()
  PIL.Image.fromarray(image).save(stream, 'PNG')
  content = base64.b64encode(stream.getvalue()).decode()
  return f'data:image/png;base64,{content}'


def _read_file(value: dict[str, str]) -> demo_lib.Upload:
  content = base64.b64decode(value['content'], validate=True)
  return demo_lib.Upload(str(value['name']), content)


def _make_endpoint(
  parse: Callable[[dict[str, Any]], Callable[[], Any]],
) -> Any:
  """An address that takes and returns JSON; what is refused is its error."""

  def reply(content: Any, status: int = 200) -> responses.Response:
    return responses.JSONResponse(content, status, headers=_HEADERS)

  async def endpoint(request: requests.Request) -> responses.Response:
    # Forms of other sites can't have this type.
    if request.headers.get('content-type') != 'application/json':
      return reply({'error': 'send application/json'}, 415)
    if int(request.headers.get('content-length') or 0) > _MAX_BYTES:
      return reply({'error': 'the files are over 256 MiB; add fewer'}, 413)
    try:
      answer = parse(json.loads(await request.body()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      return reply({'error': f'the request is malformed: {error!r}'}, 400)
    try:
      return reply(await concurrency.run_in_threadpool(answer))
    except ConfigError as error:
      return reply({'error': str(error)}, 422)

  return endpoint
