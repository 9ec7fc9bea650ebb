"""`mmjax serve`: a trained model behind OpenAI's chat endpoint."""

import argparse
import socket

from mmjax.cli import arguments
from mmjax.errors import ConfigError

USAGE = """\
  mmjax serve runs/chat_images
  mmjax serve SmolLM2-135M-Instruct --port=8000 --batch_size=16

MODEL is a run of the task `chat`, or a published model with a chat template.
Clients use http://HOST:PORT/v1 as OpenAI's base URL, with any key.
"""


def main(argv: list[str]) -> int:
  """Serves until Ctrl-C or SIGTERM.

  Raises:
    ConfigError: if the packages of the extra `serve` are missing, the model
      can't be opened or does not chat, or the address is in use.
  """
  parser = _make_parser()
  args = parser.parse_args(argv)
  if not 0 <= args.port < 65536:
    parser.error(f'--port={args.port} is not legal; use 0 to 65535')
  for name in ('batch_size', 'max_length', 'max_waiting'):
    value = getattr(args, name)
    if value is not None and value < 1:
      parser.error(f'--{name}={value} is not legal; use 1 or more')
  try:
    from mmjax.cli import serve_answers, serve_app
  except ModuleNotFoundError as error:
    raise ConfigError(
      f"{error.name} is missing; install it with pip install 'mmjax[serve]'"
    ) from error
  # JAX is imported late, so that the errors above come at once.
  from mmjax.inference import batching, chat_models, opened
  from mmjax.training import startup

  listener = _listen(args.host, args.port)
  startup.use_compilation_cache()
  use = lambda model: chat_models.open_chat_model(model, args.max_length)
  found = opened.open_model(args.model, use, **arguments.get_run(args))
  model = use(found)
  engine = batching.Engine(model, args.batch_size, args.max_waiting)
  served = serve_answers.Served(
    args.name or args.model, model, engine, args.allow_http
  )
  host, port = listener.getsockname()[:2]
  host = f'[{host}]' if ':' in host else host
  address = f'{found.describe()}\nhttp://{host}:{port}/v1  (Ctrl-C ends)'
  with listener:
    serve_app.run(served, args.host, listener, address)
  return 0


def _listen(host: str, port: int) -> socket.socket:
  """A socket at an address.

  Raises:
    ConfigError: if it can't be had.
  """
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  listener = socket.socket(family)
  listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    listener.bind((host, port))
  except OSError as error:
    listener.close()
    raise ConfigError(
      f'--host={host} --port={port}: {error.strerror}; use others, or port 0 '
      'for any that is free'
    ) from error
  return listener


def _make_parser() -> argparse.ArgumentParser:
  parser = arguments.Parser(
    prog='mmjax serve',
    description="Serve a trained model by OpenAI's chat endpoint.",
    epilog=USAGE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('model', metavar='MODEL', help='a run, or a published model')
  arguments.add_run(parser)
  add(
    '--host',
    default='127.0.0.1',
    help='address to listen to; 0.0.0.0 for all, which lets everyone in '
    '(default: %(default)s)',
  )
  add(
    '--port',
    type=int,
    default=8000,
    help='port; 0 for any that is free (default: %(default)s)',
  )
  add('--name', help='the name in requests (default: MODEL as it is written)')
  add(
    '--batch_size',
    type=int,
    default=8,
    help='most answers that are written at once (default: %(default)s)',
  )
  add(
    '--max_length',
    type=int,
    help='most tokens of a conversation with its answer (default: as many as '
    'the model has positions for, at most 4096)',
  )
  add(
    '--max_waiting',
    type=int,
    default=256,
    help='most answers that wait; further requests are refused '
    '(default: %(default)s)',
  )
  add(
    '--allow_http',
    action='store_true',
    help='download images of http and https URLs, also of the own network',
  )
  return parser
