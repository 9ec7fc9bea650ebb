"""`mmjax data`: prepare, import, list, show and measure data sets."""

import argparse
import pathlib

from mmjax.cli import arguments
from mmjax.data import formats
from mmjax.errors import ConfigError


def main(argv: list[str]) -> int:
  """Runs `mmjax data ...`; returns the exit status."""
  parser = _parser()
  if not argv:
    parser.print_help()
    return 2
  options = parser.parse_args(argv)
  return options.run(options) or 0


def _parser() -> argparse.ArgumentParser:
  parser = arguments.Parser(
    prog='mmjax data', description='Prepare, import and look at data sets.'
  )
  where = argparse.ArgumentParser(add_help=False)
  where.add_argument(
    '--data_dir',
    help='where data sets live (default: $MMJAX_DATA_DIR, or '
    '~/.cache/mmjax/data)',
  )
  commands = parser.add_subparsers(
    title='commands', required=True, metavar='COMMAND'
  )
  _add_prepare(commands, where)
  _add_import(commands, where)
  _add_show(commands, where)
  _add_baseline(commands, where)
  listing = commands.add_parser(
    'list', parents=[where], help='list data sets: prepared, and to prepare'
  )
  listing.set_defaults(run=_list)
  return parser


def _add_prepare(commands, where: argparse.ArgumentParser) -> None:
  parser = commands.add_parser(
    'prepare',
    parents=[where],
    help='write one of the data sets that come with mmjax',
    description='Writes a data set, unless it exists already.',
  )
  parser.add_argument('name', help='for example shapes, shapes/small, easy_vqa')
  parser.set_defaults(run=_prepare)


def _add_import(commands, where: argparse.ArgumentParser) -> None:
  kinds = ''.join(
    f'\n  {name:<14} {kind.meaning}' for name, kind in formats.FORMATS.items()
  )
  parser = commands.add_parser(
    'import',
    parents=[where],
    help='make a data set of your own images and texts',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description='Makes a data set of images with captions or questions.\n\n'
    f'formats:{kinds}\n\n'
    'Fields: image (a path relative to the file, or to --images), id, caption '
    'or\ncaptions, question with answer or answers, or questions; all others '
    'become\nmetadata.',
    epilog='example: mmjax data import --format=csv --input=photos.csv '
    '--name=photos',
  )
  add = parser.add_argument
  add('--format', required=True, choices=tuple(formats.FORMATS))
  add(
    '--input',
    required=True,
    help='file or folder, pattern such as "shards/{00000..00099}.tar", '
    '"shards/*.tar" or "data/**/*.parquet", or several with commas',
  )
  add('--name', required=True, help='name of the data set: a-z, 0-9 and _')
  add(
    '--splits',
    help='names and fractions; records are split by a hash of their group, or '
    'of their image (default: the splits that a field, folders or file names '
    'give, else train:0.8,validation:0.1,test:0.1)',
  )
  add(
    '--split_names',
    help='splits by further words of a field `split`, for example '
    'validation=eval,test=test-dev',
  )
  add('--group_by', help='field whose records of one value go into one split')
  add(
    '--on_error',
    default='stop',
    choices=('stop', 'skip'),
    help='what to do with an unreadable record; skipped ones are listed in '
    'skipped.jsonl (default: %(default)s)',
  )
  add(
    '--language',
    help='language of the captions to take, for example de (default: en, and '
    'captions without a language)',
  )
  _add_reading(parser)
  _add_tokenizer(parser)
  add(
    '--overwrite', action='store_true', help='replace a data set of this name'
  )
  parser.set_defaults(run=_import)


def _add_tokenizer(parser: argparse.ArgumentParser) -> None:
  """Adds the options on the data set's tokenizer."""
  add = parser.add_argument
  add(
    '--vocab_size',
    type=int,
    default=8192,
    help='maximum vocabulary size of the tokenizer trained on the training '
    'texts (default: %(default)s)',
  )
  add('--lower', action='store_true', help='lower-case texts in the tokenizer')
  add(
    '--text_fields',
    help='further fields whose texts the tokenizer is trained on, such as tags',
  )
  add('--tokenizer', help='a tokenizer.json to use instead of training one')


def _add_reading(parser: argparse.ArgumentParser) -> None:
  """Adds the options on how to read input files."""
  add = parser.add_argument_group('how to read the input').add_argument
  add(
    '--fields',
    metavar='NAME=KIND:COLUMN,...',
    help='further fields of records and the columns that fill them, for '
    'example said=sound:audio_path,age=number:years; kinds are image, images, '
    'sound, sounds, video, videos, text, category, number, vector, series, '
    'points and turns (default: columns of sound and video files)',
  )
  add(
    '--columns',
    help='names of columns or keys by field, for example '
    'caption=title,image=file',
  )
  add(
    '--images',
    help='folder that paths of images are relative to (default: the folder of '
    'the file that names them)',
  )
  add(
    '--separator',
    help=r'character between CSV cells, \t for a tab (default: detected from '
    'the header)',
  )
  add(
    '--quotes',
    default='cells',
    choices=('cells', 'none'),
    help='whether quotation marks surround CSV cells or are part of the text '
    '(default: %(default)s)',
  )
  add('--encoding', help='encoding of text files (default: UTF-8)')


def _add_show(commands, where: argparse.ArgumentParser) -> None:
  parser = commands.add_parser(
    'show',
    parents=[where],
    help='print counts and examples, write a contact sheet',
  )
  parser.add_argument('name', help='a prepared data set')
  parser.add_argument('--split', help='split to show (default: the first)')
  parser.add_argument(
    '--output', help='file of the contact sheet (default: NAME-SPLIT.png)'
  )
  parser.add_argument(
    '--rows',
    type=int,
    default=24,
    help='number of examples (default: %(default)s)',
  )
  parser.add_argument(
    '--fields',
    help='fields of a data set that mmjax did not write, as in data.fields: '
    "\"dict(image='image', captions='captions/text')\"",
  )
  parser.add_argument(
    '--tokenizer',
    help='tokenizer.json of a model by whose chat template conversations are '
    "written, token by token (default: the data set's own)",
  )
  parser.set_defaults(run=_show)


def _add_baseline(commands, where: argparse.ArgumentParser) -> None:
  parser = commands.add_parser(
    'baseline',
    parents=[where],
    help='compare records by HOG, SIFT or TF-IDF, without training',
  )
  parser.add_argument('name', help='a prepared data set')
  parser.add_argument(
    '--feature',
    required=True,
    help='kind and settings as in data.features: '
    "\"dict(kind='hog', field='image', size=48)\"",
  )
  parser.add_argument(
    '--target',
    default='',
    help='field of a class, such as metadata/shape, which is predicted as that '
    'of the nearest training record (default: find the texts of a record by '
    'its first text)',
  )
  parser.add_argument(
    '--train_split',
    default='train',
    help='split of the training records (default: %(default)s)',
  )
  parser.add_argument(
    '--split',
    default='test',
    help='split that is measured (default: %(default)s)',
  )
  parser.add_argument(
    '--num_examples',
    type=int,
    default=10_000,
    help='largest number of records of each split; 0 for all '
    '(default: %(default)s)',
  )
  parser.set_defaults(run=_baseline)


# Commands import what they need, so that parsing and help stay quick.


def _prepare(options: argparse.Namespace) -> None:
  from mmjax.data import prepare

  print(prepare.prepare(options.name, options.data_dir))


def _import(options: argparse.Namespace) -> None:
  from mmjax.data import (
    columns,
    extra_fields,
    image_rows,
    importing,
    split_names,
    splitting,
  )

  separator, images = options.separator, options.images
  if images and not pathlib.Path(images).expanduser().is_dir():
    raise ConfigError(f'--images={images}: there is no such folder')
  settings = importing.Settings(
    name=options.name,
    splits=splitting.parse_splits(options.splits) if options.splits else None,
    split_names=split_names.parse(options.split_names),
    group_by=options.group_by,
    on_error=options.on_error,
    language=options.language,
    vocab_size=options.vocab_size,
    lower=options.lower,
    fields=extra_fields.parse(options.fields),
    text_fields=tuple(filter(None, (options.text_fields or '').split(','))),
    tokenizer=options.tokenizer,
    options=image_rows.Options(
      columns=columns.parse(options.columns),
      images=pathlib.Path(images).expanduser() if images else None,
      separator='\t' if separator == r'\t' else separator,
      encoding=options.encoding,
      quotes=options.quotes == 'cells',
    ),
  )
  folder = importing.import_data(
    options.format,
    options.input,
    settings,
    data_dir=options.data_dir,
    overwrite=options.overwrite,
  )
  print(folder)


def _show(options: argparse.Namespace) -> None:
  import rich.console

  from mmjax.config import overrides, settings
  from mmjax.data import show_turns, showing, sources

  config = settings.default_config()
  if options.fields:
    overrides.override(config, [('data.fields', options.fields)])
  if options.output:
    arguments.check_image_output(options.output, makes_folder=True)
  if options.tokenizer:
    with arguments.naming(f'--tokenizer={options.tokenizer}', 'read'):
      pathlib.Path(options.tokenizer).open('rb').close()
  print(
    showing.show(
      options.name,
      split=options.split,
      data_dir=options.data_dir,
      output=options.output,
      rows=options.rows,
      fields=config.data.fields,
    )
  )
  source = sources.open_source(
    options.name,
    options.split or 'all',
    data_dir=options.data_dir,
    fields=config.data.fields,
  )
  console = rich.console.Console(soft_wrap=True)
  for drawn in show_turns.iterate_shown(source, options.tokenizer):
    console.print(drawn)


def _baseline(options: argparse.Namespace) -> None:
  from mmjax.config import fields, flag_values
  from mmjax.data import sources
  from mmjax.evaluators import cosine
  from mmjax.inference import targets

  if options.num_examples < 0:
    raise ConfigError(
      f'--num_examples={options.num_examples} is not legal: 0 or more'
    )
  settings = flag_values.read(
    options.feature, fields.Field('dict', None, 'kind and settings')
  )
  train, test = (
    sources.open_source(options.name, split, data_dir=options.data_dir)
    for split in (options.train_split, options.split)
  )
  if options.target:
    targets.make(train, options.target)  # Its errors name the flag.
  try:
    values = cosine.measure(
      train,
      test,
      settings,
      target=options.target,
      num_examples=options.num_examples,
    )
  except ConfigError as error:
    message = str(error).replace('data.features.feature', '--feature')
    raise ConfigError(message) from error
  for name, value in values.items():
    text = f'{value:.3f}' if isinstance(value, float) else f'{value:,}'
    print(f'{name:<20} {text}')


def _list(options: argparse.Namespace) -> None:
  from mmjax.data import prepare, records

  data_dir = options.data_dir or records.get_default_data_dir()
  print(f'in {data_dir}:')
  prepared = records.list_prepared(data_dir)
  for name in prepared:
    print(f'  {name}')
  if not prepared:
    print('  nothing is prepared')
  others = [name for name in prepare.NAMES if name not in prepared]
  if others:
    print('to prepare with `mmjax data prepare NAME`:')
    for name in others:
      print(f'  {name}')
