"""`mmjax chat`: a conversation with a trained model, in a terminal."""

import argparse
import sys

from mmjax.cli import arguments

USAGE = """\
  mmjax chat runs/chat_shapes --system="a small red circle"
  mmjax chat Qwen/Qwen2.5-0.5B-Instruct --temperature=0.7
  mmjax chat llava-hf/llava-1.5-7b-hf --image=photo.jpg

MODEL is a run of the task `chat`, or a published model with a chat template.
Each line that is typed is a message; /new starts again, Ctrl-D ends. Lines may
also come from a pipe.
"""
_NEW = '/new'


def main(argv: list[str]) -> int:
  """Answers each line of the input.

  Raises:
    ConfigError: if the model does not chat, a file can't be read, or the model
      refuses a message.
  """
  parser = _make_parser()
  args = parser.parse_args(argv)
  if args.max_new_tokens is not None and args.max_new_tokens < 1:
    parser.error(
      f'--max_new_tokens={args.max_new_tokens} is not legal; use 1 or more'
    )
  arguments.check_model(args.model)
  for path in args.image or ():
    arguments.check_file(f'--image={path}', 'image', path)
  for path in args.video or ():
    arguments.check_file(f'--video={path}', 'video', path)
  for path in args.audio or ():
    arguments.check_file(f'--audio={path}', 'sound', path)
  # JAX is imported late, so that the errors above come at once.
  from mmjax.inference import chatting, opened

  settings = {'max_new_tokens': args.max_new_tokens, 'seed': args.seed}
  if args.temperature is not None:
    settings['temperature'] = args.temperature
  found = opened.open_model(
    args.model,
    check=lambda model: chatting.ChatSession(model, _write),
    **arguments.get_run(args),
  )
  system = [{'role': 'system', 'content': args.system}] if args.system else []
  chat = chatting.ChatSession(
    found, _write, tuple(args.stop or ()), settings, list(system)
  )
  print(found.describe(), file=sys.stderr)
  is_terminal = sys.stdin.isatty()
  while True:
    line = _read_line(is_terminal)
    if line is None:
      return 0
    if line == _NEW:
      chat.messages[:] = system
    elif line:
      is_first = len(chat.messages) == len(system)
      kinds = ('image', 'video', 'audio') if is_first else ()
      media = {kind: getattr(args, kind) for kind in kinds}
      chat.say(_make_content(line, media))
      print()


def _make_content(line: str, media: dict[str, list[str] | None]) -> list:
  parts = [
    {'type': kind, kind: path}
    for kind, paths in media.items()
    for path in paths or ()
  ]
  return [*parts, {'type': 'text', 'text': line}] if parts else line


def _read_line(is_terminal: bool) -> str | None:
  """The next line without its end; None after the last."""
  if not is_terminal:
    line = sys.stdin.readline()
    return line.strip() if line else None
  try:
    return input('> ').strip()
  except EOFError:
    print()
    return None


def _write(text: str) -> None:
  print(text, end='', flush=True)


def _make_parser() -> argparse.ArgumentParser:
  parser = arguments.Parser(
    prog='mmjax chat',
    description='Talk to a trained model.',
    epilog=USAGE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('model', metavar='MODEL', help='a run, or a published model')
  arguments.add_run(parser)
  add('--system', default='', help="text of the system's turn")
  add(
    '--image',
    metavar='FILE',
    action='append',
    help='image of the first message; may be repeated',
  )
  add(
    '--video',
    metavar='FILE',
    action='append',
    help='video of the first message; may be repeated',
  )
  add(
    '--audio',
    metavar='FILE',
    action='append',
    help='sound of the first message, a .wav file; may be repeated',
  )
  add(
    '--stop',
    action='append',
    help='text that ends an answer; may be repeated',
  )
  add(
    '--max_new_tokens',
    type=int,
    help="largest number of tokens of an answer (default: the model's own "
    'setting)',
  )
  add(
    '--temperature',
    type=float,
    help="0 for the likeliest token (default: the model's own setting)",
  )
  add('--seed', type=int, default=0, help='seed of sampling (default: 0)')
  return parser
