"""`mmjax embed`: vectors of images, texts or sounds, in a file."""

import argparse
import pathlib
import signal
import sys

from mmjax.cli import arguments

USAGE = """\
  mmjax embed runs/contrastive --images=photos --output=photos.npz
  mmjax embed clip-vit-base-patch32 --images='photos/**/*.jpg' \\
    --output=photos.parquet --on_error=skip
  mmjax embed runs/contrastive --images=shapes --split=test --output=test.npz
  mmjax embed all-minilm-l6-v2 --texts=names.txt --output=names.npz

MODEL is the folder of a run, that of a published model, or a model's
name on the Hugging Face hub. The output has names and embeddings, as arrays
(.npz) or columns (.parquet), the name of the model, and whether embeddings are
unit vectors. Ctrl-C or a kill loses little: the same command resumes.
"""

# Flag -> kind of the values.
FLAGS = {
  'images': 'image',
  'texts': 'text',
  'sounds': 'sound',
  'videos': 'video',
}


def main(argv: list[str]) -> int:
  """Encodes values to a file.

  Raises:
    ConfigError: if the model can't encode them, or a path is refused.
  """
  parser = _make_parser()
  args = parser.parse_args(argv)
  chosen = [flag for flag in FLAGS if getattr(args, flag) is not None]
  if len(chosen) != 1:
    listed = ', '.join(f'--{flag}' for flag in FLAGS)
    parser.error(f'exactly one of {listed} is required')
  (flag,) = chosen
  from mmjax.inference import embedding, inputs

  output = pathlib.Path(args.output)
  options = embedding.Options(
    batch_size=args.batch_size,
    on_error=args.on_error,
    overwrite=args.overwrite,
  )
  embedding.check_output(output, options)
  arguments.check_output_file(f'--output={output}', output)
  arguments.check_model(args.model)
  items = inputs.find(
    FLAGS[flag],
    getattr(args, flag),
    split=args.split,
    field=args.data_field,
    column=args.column,
    data_dir=args.data_dir,
  )
  # JAX is imported late, so that the errors above come at once.
  from mmjax.inference import encoders, opened
  from mmjax.training import startup

  startup.use_compilation_cache()
  choose = lambda m: encoders.choose_encoder(m, FLAGS[flag], args.feature)
  model = opened.open_model(args.model, choose, **arguments.get_run(args))
  encoder = choose(model)
  try:
    with arguments.naming(f'--output={output}', 'write'):
      result = embedding.embed(model, encoder, items, output, options)
  except KeyboardInterrupt:
    parts = embedding.find_parts(output)
    print(
      f'stopped; {parts} has what is done, and the same command resumes',
      file=sys.stderr,
    )
    return 128 + signal.SIGINT
  unit = 'unit vectors' if result.normalised else 'vectors, not normalised,'
  print(
    f'{output}: {len(result.names):,} {unit} of '
    f'{result.embeddings.shape[1]} numbers, of {flag}, by {result.model}'
  )
  return 0


def _make_parser() -> argparse.ArgumentParser:
  parser = arguments.Parser(
    prog='mmjax embed',
    description='Encode images, texts, sounds or videos to vectors.',
    epilog=USAGE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('model', metavar='MODEL', help="folder of a run or model, or hub's name")
  arguments.add_run(parser)
  add(
    '--images',
    metavar='WHERE',
    help='folder, file, quoted pattern, or name of a prepared data set',
  )
  add(
    '--texts',
    metavar='WHERE',
    help='file with a text in each line; .csv, .jsonl or .parquet with '
    '--column; or name of a prepared data set',
  )
  add('--sounds', metavar='WHERE', help='as --images')
  add('--videos', metavar='WHERE', help='as --images')
  add('--output', required=True, help='file to write: .npz or .parquet')
  add('--column', default='', help='column of a table that has the texts')
  add(
    '--split',
    default='test',
    help='split of a data set (default: %(default)s)',
  )
  add(
    '--data_field',
    default='',
    help='field of a data set (default: image, captions, sound, video)',
  )
  add('--data_dir', help='where data sets live (default: as `mmjax data`)')
  add('--feature', default='', help='feature of a run that encodes the values')
  add(
    '--batch_size',
    type=int,
    default=64,
    help='values that are encoded at once (default: %(default)s)',
  )
  add(
    '--on_error',
    default='stop',
    choices=('stop', 'skip'),
    help='what to do with an unreadable value; skipped ones are listed in '
    'OUTPUT.skipped.jsonl (default: %(default)s)',
  )
  add('--overwrite', action='store_true', help='replace an existing output')
  return parser
