"""`mmjax demo`: a local page to try trained models on."""

import argparse
import socket

from mmjax.cli import arguments
from mmjax.errors import ConfigError

USAGE = """\
  mmjax demo runs/pretrain
  mmjax demo openai/clip-vit-base-patch32 google/siglip-base-patch16-224

MODEL is the folder of a run, that of a published model, or a model's name on
the Hugging Face hub; several are compared side by side. Only this machine can
open the page, and nothing leaves it.
"""
HOST = '127.0.0.1'


def main(argv: list[str]) -> int:
  """Serves the page until Ctrl-C.

  Raises:
    ConfigError: if the packages of the extra `demo` are missing, a model can't
      be opened or does nothing that the page shows, or the port is in use.
  """
  parser = arguments.Parser(
    prog='mmjax demo',
    description='Try trained models on a local page: search, caption, ask, '
    'rank texts, classify, transcribe; what the models can do.',
    epilog=USAGE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    'model', nargs='+', metavar='MODEL', help="folder or hub's name"
  )
  arguments.add_run(parser)
  parser.add_argument(
    '--port',
    type=int,
    default=7860,
    help='port of the page; 0 for any that is free (default: %(default)s)',
  )
  args = parser.parse_args(argv)
  if not 0 <= args.port < 65536:
    parser.error(f'--port={args.port} is not legal; use 0 to 65535')
  for name in args.model:
    arguments.check_model(name)
  try:
    import uvicorn

    from mmjax.cli import demo_app
  except ModuleNotFoundError as error:
    raise ConfigError(
      f"{error.name} is missing; install it with pip install 'mmjax[demo]'"
    ) from error
  # JAX is imported late, so that the errors above come at once.
  from mmjax.inference import demo, opened
  from mmjax.training import startup

  listener = _listen(args.port)
  startup.use_compilation_cache()
  models = demo.Demo(
    [opened.open_model(name, **arguments.get_run(args)) for name in args.model]
  )
  app = demo_app.make(models)
  server = uvicorn.Server(uvicorn.Config(app, log_level='warning'))
  print(f'http://{HOST}:{listener.getsockname()[1]}  (Ctrl-C ends)', flush=True)
  with listener:
    server.run(sockets=[listener])
  return 0


def _listen(port: int) -> socket.socket:
  """A socket that only this machine can reach.

  Raises:
    ConfigError: if another program has the port.
  """
  listener = socket.socket()
  listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    listener.bind((HOST, port))
  except OSError as error:
    listener.close()
    raise ConfigError(
      f'--port={port}: {error.strerror}; use another, or 0 for any'
    ) from error
  return listener
