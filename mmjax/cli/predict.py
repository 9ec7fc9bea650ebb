"""`mmjax predict`: uses a trained model on files."""

import argparse
import functools
import sys

from mmjax.cli import arguments, predict_output
from mmjax.errors import ConfigError, choose

USAGE = """\
  mmjax predict runs/captioning --image=photo.png
  mmjax predict runs/vqa --image=photo.png --question="what color is it?"
  mmjax predict runs/contrastive --image=photos --text="a small red circle" \\
    --text="a large blue square"
  mmjax predict runs/senses --input image=photo.png --input sound=call.wav
  mmjax predict openai/clip-vit-base-patch32 --image=photo.png --text="a cat"
  mmjax predict openai/whisper-base --sound=call.wav
  mmjax predict openai-community/gpt2 --text="Once upon a time"
  mmjax predict runs/draw --text="a small red circle in the center" \\
    --output=drawings.png --copies=4
  mmjax predict runs/speak --text="a rising melody" --output=melody.wav
  mmjax predict facebook/encodec_24khz --sound=call.wav --output=decoded.wav

MODEL is the folder of a run, that of a published model, or a model's name on
the Hugging Face hub. Published ones caption (BLIP), answer (BLIP, LLaVA,
Qwen2-VL, PaliGemma), rank texts (CLIP, SigLIP), transcribe (Whisper), classify
(ViT and others with a classifier), continue texts (GPT-2, Llama, T5, ...), and
encode and decode sounds (EnCodec).
"""


def main(argv: list[str]) -> int:
  """Uses one of a trained model's abilities on files and texts.

  Raises:
    ConfigError: if the model can't do what is asked; the message says what it
      can.
  """
  parser = _make_parser()
  args = parser.parse_args(argv)
  name = args.model
  flag, texts = _get_texts(args, parser)
  if not flag and not (args.image or args.sound or args.input):
    parser.error('one of --image, --sound, --input and --text is required')
  arguments.check_model(name)
  input_sets = _list_inputs(args, parser)
  if args.output:
    predict_output.check_path(args.output)
  # JAX is imported late, so that the errors above come at once.
  from mmjax.inference import opened

  # `check` runs before any weight is read.
  choices = []
  found = opened.open_model(
    name,
    check=lambda model: choices.append(
      _choose_task(model, args, flag, input_sets)
    ),
    **arguments.get_run(args),
  )
  ((use, output_flags),) = choices
  model = _as_run(found, args.max_new_tokens)
  if found.is_run and use.feature:
    _warn_if_cut(model, texts, use.feature)
  beam_size = args.beam_size
  if beam_size is None and found.is_run:
    beam_size = model.config.eval.beam_size
  for values in input_sets:
    if len(input_sets) > 1:
      print(f'{values.get("image") or values["sound"]}:')
    for line in use.make_lines(model, values, texts, beam_size):
      print(line)
  if predict_output.is_sound(args.output):
    play = functools.partial(use.play, **output_flags)
    predict_output.write_sound(play, model, input_sets[0], texts, args.output)
  elif args.output:
    draw = functools.partial(use.draw, **output_flags)
    predict_output.write_images(draw, model, input_sets, texts, args.output)
  return 0


def _as_run(found, max_new_tokens: int | None):
  """A run, or a published model that is used as one.

  Raises:
    ConfigError: if a run gets a number of tokens, which its config has.
  """
  from mmjax.inference import abilities

  if not found.is_run:
    return abilities.Published(found.model, found.name, max_new_tokens)
  if max_new_tokens is not None:
    raise ConfigError(
      f'--max_new_tokens={max_new_tokens}: the lengths of the run are '
      'those of its config; leave it out'
    )
  return found.model


def _choose_task(
  found, args: argparse.Namespace, flag: str, input_sets: list[dict[str, str]]
):
  """How the task that the flags ask for is used, and settings of its output.

  Args:
    found: the model, perhaps without parameters.
    args: the command line.
    flag: as of `_find_use`.
    input_sets: sets of inputs.

  Raises:
    ConfigError: if the model has no such task or input, or the task needs other
      flags.
  """
  name = args.model
  model = _as_run(found, args.max_new_tokens)
  print(found.describe(), file=sys.stderr)
  use = _find_use(model, flag, name, args.task)
  if use.needs_inputs and not any(input_sets):
    raise ConfigError(f'{name}: the task needs an input; add --image=FILE')
  output_flags = predict_output.list_settings(args, use)
  predict_output.check_use(use, name, args.output, input_sets, args.text or ())
  for values in input_sets:
    for field, value in values.items():
      is_new = not getattr(args, field, None)
      _check_input(found.is_run, model, field, value, is_new)
  return use, output_flags


def _list_inputs(
  args: argparse.Namespace, parser: argparse.ArgumentParser
) -> list[dict[str, str]]:
  """Sets of inputs: one for each image, or each sound."""
  named = dict(_split_input(text) for text in args.input or ())
  files = {}
  for kind in ('image', 'sound'):
    given = getattr(args, kind)
    if given and kind in named:
      parser.error(f'--{kind} and --input {kind}=... are the same; use one')
    files[kind] = [path for where in given or () for path in _find(kind, where)]
  if min(map(len, files.values())) > 1:
    parser.error('give several of --image or of --sound, not of both')
  kind = max(files, key=lambda kind: len(files[kind]))
  for other, paths in files.items():
    named |= {other: paths[0]} if paths else {}
  return [named | {kind: path} for path in files[kind]] or [named]


def _find(kind: str, where: str) -> list[str]:
  """The files of a flag, which may be a folder or a pattern.

  Raises:
    ConfigError: naming the flag, if there is none or it can't be read.
  """
  from mmjax.inference import inputs

  paths = inputs.list_files(kind, where)
  for path in paths:
    arguments.check_file(f'--{kind}={where}', kind, path)
  return paths


def _make_parser() -> argparse.ArgumentParser:
  parser = arguments.Parser(
    prog='mmjax predict',
    description='Use a trained model: caption an image, answer a question '
    'about it, rank texts by how well they fit, predict a class or number, '
    'transcribe, continue a text, or make an image or a sound of it.',
    epilog=USAGE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('model', metavar='MODEL', help="folder or hub's name")
  arguments.add_run(parser)
  parser.add_argument(
    '--image',
    action='append',
    help='image file, folder or quoted pattern; may be repeated',
  )
  parser.add_argument('--sound', action='append', help='the same of sounds')
  parser.add_argument(
    '--input',
    action='append',
    metavar='NAME=VALUE',
    help='file, text or number of an input of the model; may be repeated',
  )
  parser.add_argument('--question', help='what to ask about the image')
  parser.add_argument(
    '--text',
    action='append',
    help='a text to rank, or to continue; may be repeated',
  )
  parser.add_argument(
    '--task', help='name of the task to use, where several can answer'
  )
  parser.add_argument(
    '--beam_size',
    type=int,
    help="beam size of written texts; 1 is greedy (default: a run's "
    "eval.beam_size, or that of a published model's files)",
  )
  parser.add_argument(
    '--output',
    help='file of a contact sheet to write: drawings of texts, or by the task '
    'masked the original, what is visible and the completed one; a .wav file '
    'of a text that is spoken, or a sound that is encoded and decoded',
  )
  parser.add_argument('--seed', type=int, help='of what is made (default: 0)')
  parser.add_argument(
    '--guidance',
    type=float,
    help="how closely it follows the text (default: the task's)",
  )
  parser.add_argument(
    '--copies', type=int, help='drawings of each text (default: 1)'
  )
  parser.add_argument(
    '--max_new_tokens',
    type=int,
    help='largest number of tokens that a published model writes (default: '
    "the model's)",
  )
  return parser


def _get_texts(
  args: argparse.Namespace, parser: argparse.ArgumentParser
) -> tuple[str, list[str]]:
  """The flag that asks for a task, '' for inputs alone, and its texts."""
  if args.question is not None and args.text:
    parser.error('--question and --text ask for different things; use one')
  asked = [] if args.question is None else [args.question]
  for flag, texts in (('--question', asked), ('--text', args.text or [])):
    if not all(map(str.strip, texts)):
      parser.error(f'{flag} is empty; give it a text')
  if args.beam_size is not None and args.beam_size < 1:
    parser.error(f'--beam_size={args.beam_size} is not legal; use 1 or more')
  if args.max_new_tokens is not None and args.max_new_tokens < 1:
    parser.error(
      f'--max_new_tokens={args.max_new_tokens} is not legal; use 1 or more'
    )
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


def _check_input(
  is_run: bool, run, name: str, value: str, is_new: bool
) -> None:
  """Refuses a value that the model can't read, naming the flag.

  A file of a flag such as --image, not `is_new`, was read before.
  """
  flag = f'--input {name}={value}'
  legal = run.inputs
  if (legal or not is_run) and name not in legal:
    raise ConfigError(f'{flag}: the model reads {", ".join(legal) or "texts"}')
  if not is_run:
    if is_new:
      arguments.check_file(flag, name, value)
    return
  try:
    with arguments.naming(flag, 'read'):
      run.preprocessor[_find_feature(run, name)].prepare(value)
  except ConfigError as error:
    message = str(error)
    named = message if message.startswith(flag) else f'{flag}: {message}'
    raise ConfigError(named) from error


def _find_feature(run, name: str) -> str:
  """The feature that reads a value; of images in conversations, theirs."""
  from mmjax.data import features

  if name in run.preprocessor.features:
    return name
  for feature in run.preprocessor.features.values():
    if isinstance(feature, features.Turns):
      named = features.name_media(feature)
      if name in named:
        return named[name][0]
  return name


def _find_use(run, flag: str, model_name: str, task_name: str | None = None):
  """How the run's task that a flag asks for is used.

  Args:
    run: the model.
    flag: 'text' or 'question'; '' for an image alone.
    model_name: the model's name or folder, for the message.
    task_name: name of the task; None for the first one, with a note if there
      are others.

  Raises:
    ConfigError: if the model was not trained for such a task.
  """
  uses = {
    name: task.predict_use
    for name, task in run.tasks.items()
    if task.predict_use is not None and task.predict_use.flag == flag
  }
  if task_name is not None:
    asks = f'--{flag}' if flag else 'inputs alone'
    return choose(task_name, uses, f'{model_name}: with {asks}, --task')
  for name, use in uses.items():
    others = [n for n, other in uses.items() if other is not use]
    note = [f'--task={" or ".join(others)}'] if others else []
    note += [
      f'--{task.predict_use.flag} for the task {other}'
      for other, task in run.tasks.items()
      if task.predict_use is not None
      and task.predict_use.flag not in ('', flag)
    ]
    if note:
      print(
        f'by the task {name}; there is also {", ".join(note)}', file=sys.stderr
      )
    return use
  asked = f'use --{flag}' if flag else 'predict from inputs without a text'
  raise ConfigError(f'{model_name}: {run.unable(asked)}{_example_flags(run)}')


def _example_flags(run) -> str:
  """Flags that ask for what the run can do, for a message; '' for none."""
  examples = {
    'text': "--text='a photo of a cat'",
    'question': "--question='what is it?'",
  }
  flags = dict.fromkeys(
    examples[task.predict_use.flag]
    for task in run.tasks.values()
    if task.predict_use is not None and task.predict_use.flag in examples
  )
  return f'; use {" or ".join(flags)}' if flags else ''


def _warn_if_cut(run, texts: list[str], name: str) -> None:
  """Warns of texts that are longer than what a feature reads."""
  feature = run.preprocessor[name]
  if not feature.uses_tokenizer:
    return
  length = feature.length
  # Questions are never written.
  as_input = getattr(feature, 'as_input', True)
  for text in texts:
    number = run.tokenizer.count(text, as_input=as_input)
    if number > length:
      print(
        f'{text!r} has {number} tokens; the model reads the first {length}',
        file=sys.stderr,
      )
