"""`mmjax search`: the nearest of embedded values to a text or file."""

import argparse
import pathlib

from mmjax.cli import arguments

USAGE = """\
  mmjax search runs/contrastive --index=photos.npz --text="a red circle" \\
    --output=found.png
  mmjax search clip-vit-base-patch32 --index=photos.npz --image=query.jpg

MODEL is the model that `mmjax embed` wrote the index with.
"""
_FLAGS = ('text', 'image', 'sound', 'video')


def main(argv: list[str]) -> int:
  """Prints and draws the nearest values.

  Raises:
    ConfigError: if the index is of another model, or a path is refused.
  """
  parser = _make_parser()
  args = parser.parse_args(argv)
  chosen = [flag for flag in _FLAGS if getattr(args, flag) is not None]
  if len(chosen) != 1:
    listed = ', '.join(f'--{flag}' for flag in _FLAGS)
    parser.error(f'exactly one of {listed} is required')
  if args.top < 1:
    parser.error(f'--top={args.top} is not legal; use 1 or more')
  kind = chosen[0]
  query = getattr(args, kind)
  if not query.strip():
    parser.error(f'--{kind} is empty; give it a value')
  arguments.check_model(args.model)
  if kind != 'text':
    arguments.check_file(f'--{kind}={query}', kind, query)
  if args.output:
    arguments.check_image_output(args.output)
  from mmjax.inference import index

  path = pathlib.Path(args.index)
  found = index.load(path)
  # JAX is imported late, so that the errors above come at once.
  from mmjax.inference import encoders, opened, searching
  from mmjax.training import startup

  startup.use_compilation_cache()
  model = opened.open_model(
    args.model,
    check=lambda m: encoders.choose_encoder(m, kind, args.feature),
    **arguments.get_run(args),
  )
  searching.check_index(found, model, path)
  matches = searching.search(
    found, model, kind, query, top=args.top, feature=args.feature
  )
  print('cosine  name')
  for match in matches:
    print(f'{match.cosine:6.3f}  {match.name}')
  if args.output:
    with arguments.naming(f'--output={args.output}', 'write'):
      searching.render(found, matches, f'{kind}: {query}').save(args.output)
    print(args.output)
  return 0


def _make_parser() -> argparse.ArgumentParser:
  parser = arguments.Parser(
    prog='mmjax search',
    description='Find the embedded values that are nearest to a text or file.',
    epilog=USAGE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('model', metavar='MODEL', help='the model that made the index')
  arguments.add_run(parser)
  add('--index', required=True, help='file that `mmjax embed` wrote')
  add('--text', help='text to search for')
  for kind in _FLAGS[1:]:
    add(f'--{kind}', metavar='FILE', help=f'{kind} to search for')
  add('--feature', default='', help='feature of a run that encodes the query')
  add(
    '--top',
    type=int,
    default=20,
    help='number of values to print (default: %(default)s)',
  )
  add('--output', help='file of a contact sheet of them, such as found.png')
  return parser
