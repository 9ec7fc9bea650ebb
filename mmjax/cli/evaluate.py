"""`mmjax evaluate`: measures a trained model on a data set."""

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Sequence

from mmjax.cli import arguments, report
from mmjax.errors import ConfigError

USAGE = """\
  mmjax evaluate runs/contrastive --data=photos --split=test
  mmjax evaluate clip-vit-base-patch32 --data=photos --task=retrieval
  mmjax evaluate clip-vit-base-patch32 --data=pets --target=metadata/breed \\
    --template='a photo of a {}, a type of pet.' --output=results

MODEL is the folder of a run, that of a published model, or a model's
name on the Hugging Face hub. Of a run, its tasks are measured as at the end of
training; of published ones retrieval (CLIP, SigLIP), captioning and vqa (BLIP),
classify (classifiers of images). Models of images and texts also do zero_shot:
the class whose text is nearest to the image.
"""

# Smallest legal value of flags.
_NUMBERS = {
  'batch_size': 1,
  'num_examples': 0,
  'beam_size': 1,
  'max_new_tokens': 1,
}


def main(argv: list[str]) -> int:
  """Prints a table of results, and writes them to a folder.

  Raises:
    ConfigError: if the model or the data can't do what is asked.
  """
  parser = _make_parser()
  args = parser.parse_args(argv)
  for flag, least in _NUMBERS.items():
    if getattr(args, flag) < least:
      parser.error(
        f'--{flag}={getattr(args, flag)} is not legal; use {least} or more'
      )
  output = pathlib.Path(args.output) if args.output else None
  if output is not None:
    arguments.check_output_folder(f'--output={output}', output)
  arguments.check_model(args.model)
  classes = _read_classes(args.classes)
  from mmjax.data import sources

  source = sources.open_source(
    args.data, args.split, data_dir=args.data_dir, fields=_read_fields(args)
  )
  # JAX is imported late, so that the errors above come at once.
  from mmjax.inference import evaluating, opened
  from mmjax.training import startup

  startup.use_compilation_cache()
  options = evaluating.Options(
    data=args.data,
    split=args.split,
    task=args.task,
    target=args.target,
    classes=classes,
    gallery_by=args.gallery_by,
    batch_size=args.batch_size,
    num_examples=args.num_examples,
    beam_size=args.beam_size,
    max_new_tokens=args.max_new_tokens,
    **({'templates': tuple(args.template)} if args.template else {}),
  )
  model = opened.open_model(
    args.model,
    check=lambda m: evaluating.find(m, source, options, _open_training),
    **arguments.get_run(args),
  )
  print(model.describe(), file=sys.stderr)
  results = evaluating.evaluate(model, source, options, _open_training)
  name = pathlib.Path(args.model).name
  report.print_table(
    (name if i == 0 else '', *row)
    for i, row in enumerate(evaluating.iterate_table(results, args.split))
  )
  notes = _list_notes(args, model, source, results)
  for note in notes:
    print(f'note: {note}')
  if output is not None:
    with arguments.naming(f'--output={output}', 'write'):
      _write(output, model, options, results, notes)
  return 0


def _open_training(config):
  """The training records of a run."""
  from mmjax.data import data_sets

  return data_sets.open_all(config.data).train


def _read_fields(args: argparse.Namespace):
  """What maps the features of a data set that mmjax did not write."""
  if not args.fields:
    return None
  from mmjax.config import overrides, settings

  config = settings.default_config()
  overrides.override(config, [('data.fields', args.fields)])
  return config.data.fields


def _read_classes(text: str | None) -> tuple[str, ...]:
  """Names of classes, of a file with one in each line or with commas."""
  if text is None:
    return ()
  path, lines = pathlib.Path(text), text.split(',')
  is_file = os.path.isfile(text)
  if is_file:
    try:
      with arguments.naming(f'--classes={text}', 'read'):
        lines = path.read_text('utf-8').splitlines()
    except UnicodeDecodeError as error:
      raise ConfigError(
        f'--classes={text} is not UTF-8 at byte {error.start}; convert it'
      ) from error
  classes = tuple(line.strip() for line in lines if line.strip())
  if len(classes) < 2:
    number = f'{len(classes)} class' if classes else 'no class'
    missing = '' if is_file else f', and there is no file {text}'
    raise ConfigError(
      f'--classes={text} names {number}{missing}; name at least two'
    )
  return classes


def _list_notes(args: argparse.Namespace, model, source, results) -> list[str]:
  """How many records there were, and what a reader may not expect."""
  notes = [
    f'{results.number:,} of the {len(source):,} records of {args.data}, '
    f'{args.split!r}',
    *results.notes,
  ]
  is_measured = any(name.startswith('zero_shot/') for name in results.values)
  if args.template and not is_measured:
    notes.append(
      '--template has no effect, as zero_shot was not measured; add '
      '--task=zero_shot'
    )
  if model.is_run:
    data = model.model.config.data
    names = {part.partition('[')[0] for part in data.train_split.split('+')}
    if data.name == args.data and args.split in names:
      notes.append(
        f'the run was trained on this split: data.train_split='
        f'{data.train_split!r}'
      )
  return notes


def _write(
  output: pathlib.Path, model, options, results, notes: Sequence[str]
) -> None:
  """Writes evaluation.json and sample images to a folder."""
  output.mkdir(parents=True, exist_ok=True)
  content = {
    'model': model.describe(),
    'data': options.data,
    'split': options.split,
    'records': results.number,
    'results': dict(results.values),
    'notes': list(notes),
  }
  (output / 'evaluation.json').write_text(json.dumps(content, indent=2) + '\n')
  print(output / 'evaluation.json')
  for name, sheet in results.sheets.items():
    path = output / f'{name.replace("/", "_")}.png'
    sheet.save(path)
    print(path)


def _make_parser() -> argparse.ArgumentParser:
  parser = arguments.Parser(
    prog='mmjax evaluate',
    description='Measure a run or a published model on a prepared data set.',
    epilog=USAGE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('model', metavar='MODEL', help="folder of a run or model, or hub's name")
  arguments.add_run(parser)
  add('--data', required=True, help='a prepared data set')
  add('--split', default='test', help='its split (default: %(default)s)')
  add('--task', default='', help='the only task to measure (default: all)')
  add('--data_dir', help='where data sets live (default: as `mmjax data`)')
  add(
    '--fields',
    help='fields of a data set that mmjax did not write, as in data.fields',
  )
  add('--output', help='folder for evaluation.json and images of examples')
  add(
    '--gallery_by',
    default='',
    help='metadata field whose values part retrieval into galleries',
  )
  _add_sizes(parser)
  _add_classes(parser)
  return parser


def _add_sizes(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add(
    '--batch_size',
    type=int,
    default=64,
    help='examples at a time (default: %(default)s)',
  )
  add(
    '--num_examples',
    type=int,
    default=0,
    help='records to use, from the first; 0 for all (default: %(default)s)',
  )
  add(
    '--beam_size',
    type=int,
    default=1,
    help='beam size of written texts (default: %(default)s)',
  )
  add(
    '--max_new_tokens',
    type=int,
    default=20,
    help='largest number of tokens that a published model writes; runs have '
    'their own (default: %(default)s)',
  )


def _add_classes(parser: argparse.ArgumentParser) -> None:
  group = parser.add_argument_group('classes').add_argument
  group(
    '--target',
    default='',
    help='field of the class, such as metadata/shape (default: the only '
    'category of the data set)',
  )
  group(
    '--classes',
    help='names of the classes with commas, or a file with one in each line '
    '(default: those of the records)',
  )
  group(
    '--template',
    action='append',
    help='text of a class in zero_shot, with {} for its name; may be repeated '
    "(default: 'a photo of a {}.')",
  )
