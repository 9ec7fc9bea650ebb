"""`mmjax predict`: runs a trained model on files."""

import argparse
import sys

from mmjax.cli import arguments
from mmjax.errors import ConfigError, choose

USAGE = """\
  mmjax predict --workdir=runs/captioning --image=photo.png
  mmjax predict --workdir=runs/vqa --image=photo.png \\
    --question="what color is the circle?"
  mmjax predict --workdir=runs/contrastive --image=photo.png \\
    --text="a small red circle" --text="a large blue square"
  mmjax predict --workdir=runs/senses --input image=photo.png \\
    --input sound=call.wav
"""


def main(argv: list[str]) -> int:
  """Uses one of a trained model's tasks on files and texts.

  Raises:
    ConfigError: if the model was not trained for the task; the message names
      its tasks.
  """
  parser = _make_parser()
  args = parser.parse_args(argv)
  flag, texts = _get_texts(args, parser)
  named = dict(_split_input(text) for text in args.input or ())
  if args.image and 'image' in named:
    parser.error('--image and --input image=... are the same; use one')
  from mmjax.data import images

  # Read here only so that an error names the flag.
  for path in args.image or ():
    with arguments.naming(f'--image={path}', 'read'):
      images.to_array(path)
  # JAX is imported late, so that the errors above come at once.
  from mmjax.runs import rebuild

  run = rebuild.load(args.workdir)
  weights = 'EMA of the weights' if run.is_ema else 'weights'
  print(f'{args.workdir}: {weights} of step {run.step}', file=sys.stderr)
  task = _find_task(run, flag, args.workdir, args.task)
  if task.feature:
    _warn_if_cut(run, texts, task.feature)
  for name, value in named.items():
    _check_input(run, name, value)
  sets = [named | {'image': path} for path in args.image or ()] or [named]
  for values in sets:
    if len(sets) > 1:
      print(f'{values["image"]}:')
    for line in task.make_lines(run, values, texts, args.beam_size):
      print(line)
  return 0


def _make_parser() -> argparse.ArgumentParser:
  parser = arguments.Parser(
    prog='mmjax predict',
    description='Use a trained model: caption an image, answer a question '
    'about it, rank texts by how well they fit, or predict a class or number.',
    epilog=USAGE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('--workdir', required=True, help="a run's folder")
  parser.add_argument(
    '--image', action='append', help='image file; may be repeated'
  )
  parser.add_argument(
    '--input',
    action='append',
    metavar='NAME=VALUE',
    help='file, text or number of an input of the model; may be repeated',
  )
  parser.add_argument('--question', help='what to ask about the image')
  parser.add_argument(
    '--text', action='append', help='a text to rank; may be repeated'
  )
  parser.add_argument(
    '--task', help='name of the task to use, where several can answer'
  )
  parser.add_argument(
    '--beam_size',
    type=int,
    default=1,
    help='beam size of generated texts; 1 is greedy (default: %(default)s)',
  )
  return parser


def _get_texts(
  args: argparse.Namespace, parser: argparse.ArgumentParser
) -> tuple[str, list[str]]:
  """The flag that asks for a task, '' for inputs alone, and its texts."""
  if not args.image and not args.input:
    parser.error('one of --image and --input is required')
  if args.question is not None and args.text:
    parser.error('--question and --text ask for different things; use one')
  asked = [] if args.question is None else [args.question]
  for flag, texts in (('--question', asked), ('--text', args.text or [])):
    if not all(map(str.strip, texts)):
      parser.error(f'{flag} is empty; give it a text')
  if args.beam_size < 1:
    parser.error(f'--beam_size={args.beam_size} is not legal; use 1 or more')
  if args.question is not None:
    return 'question', [args.question]
  return ('text', args.text) if args.text else ('', [])


def _split_input(text: str) -> tuple[str, str]:
  name, equals, value = text.partition('=')
  if not (name and equals and value):
    raise ConfigError(
      f'--input {text} should read NAME=VALUE, as in sound=call.wav'
    )
  return name, value


def _check_input(run, name: str, value: str) -> None:
  """Refuses a value that the model can't read, naming the flag."""
  flag = f'--input {name}={value}'
  if run.inputs and name not in run.inputs:
    raise ConfigError(f'{flag}: the model reads {", ".join(run.inputs)}')
  try:
    with arguments.naming(flag, 'read'):
      run.preprocessor[name].prepare(value)
  except ConfigError as error:
    message = str(error)
    named = message if message.startswith(flag) else f'{flag}: {message}'
    raise ConfigError(named) from error


def _find_task(run, flag: str, workdir: str, chosen: str | None = None):
  """How the run's task that a flag asks for is used.

  Args:
    run: the trained model.
    flag: 'text' or 'question'; '' for an image alone.
    workdir: the run's folder, for the message.
    chosen: name of the task; None for the first one, with a note if there are
      others.

  Raises:
    ConfigError: if the model was not trained for such a task.
  """
  from mmjax import tasks

  prompts = {
    name: task.predict_flag
    for name, task in run.tasks.items()
    if task.predict_flag is not None and task.predict_flag.flag == flag
  }
  if chosen is not None:
    asks = f'--{flag}' if flag else 'inputs alone'
    return choose(chosen, prompts, f'{workdir}: with {asks}, --task')
  for name, prompt in prompts.items():
    others = [n for n, other in prompts.items() if other is not prompt]
    if others:
      print(
        f'by the task {name}; there is also --task={" or ".join(others)}',
        file=sys.stderr,
      )
    return prompt
  wanted = dict.fromkeys(
    task.ability
    for task in tasks.TASKS.values()
    if task.predict_flag is not None and task.predict_flag.flag == flag
  )
  raise ConfigError(
    f'{workdir}: {run.unable(" or ".join(wanted))}{_example_flags(run)}'
  )


def _example_flags(run) -> str:
  """Flags that ask for what the run can do, for a message; '' for none."""
  examples = {
    'text': "--text='a photo of a cat'",
    'question': "--question='what is it?'",
  }
  flags = dict.fromkeys(
    examples[task.predict_flag.flag]
    for task in run.tasks.values()
    if task.predict_flag is not None and task.predict_flag.flag in examples
  )
  return f'; use {" or ".join(flags)}' if flags else ''


def _warn_if_cut(run, texts: list[str], name: str) -> None:
  """Warns of texts that are longer than what a feature reads."""
  feature = run.preprocessor[name]
  if not feature.uses_tokenizer:
    return
  length = feature.length
  for text in texts:
    if run.tokenizer.count(text) > length:
      print(
        f'{text!r} has {run.tokenizer.count(text)} tokens; the model reads the '
        f'first {length}',
        file=sys.stderr,
      )
