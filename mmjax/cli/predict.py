"""`mmjax predict`: runs a trained model on image files."""

import argparse
import sys

from mmjax.errors import ConfigError

USAGE = """\
  mmjax predict --workdir=runs/captioning --image=photo.png
  mmjax predict --workdir=runs/vqa --image=photo.png \\
    --question="what color is the circle?"
  mmjax predict --workdir=runs/contrastive --image=photo.png \\
    --text="a small red circle" --text="a large blue square"
"""


def main(argv: list[str]) -> int:
  """Captions an image, answers about it, or ranks texts by how well they fit.

  Raises:
    ConfigError: if the model was not trained for the task; the message names
      its tasks.
  """
  parser = argparse.ArgumentParser(
    prog='mmjax predict',
    description='Caption an image file, answer a question about it, or rank '
    'texts by how well they fit it.',
    epilog=USAGE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('--workdir', required=True, help="a run's folder")
  parser.add_argument(
    '--image', required=True, action='append', help='file; may be repeated'
  )
  parser.add_argument('--question', help='what to ask about the image')
  parser.add_argument(
    '--text', action='append', help='a text to rank; may be repeated'
  )
  parser.add_argument(
    '--beam_size',
    type=int,
    default=1,
    help='beam size of generated texts; 1 is greedy (default: %(default)s)',
  )
  args = parser.parse_args(argv)
  if args.question is not None and args.text:
    parser.error('--question and --text ask for different things; use one')
  from mmjax.data import images

  by_path = {path: images.to_array(path) for path in args.image}
  # JAX is imported late, so that the errors above come at once.
  from mmjax.runs import rebuild

  run = rebuild.load(args.workdir)
  flag, texts = '', []
  if args.question is not None:
    flag, texts = 'question', [args.question]
  elif args.text:
    flag, texts = 'text', args.text
  prompt = _prompt(run, flag, args.workdir)
  if prompt.length:
    _warn_if_cut(run, texts, getattr(run.preprocess, prompt.length))
  for path, image in by_path.items():
    if len(by_path) > 1:
      print(f'{path}:')
    for line in prompt.lines(run, image, texts, args.beam_size):
      print(line)
  return 0


def _prompt(run, flag: str, workdir: str):
  """How the run's task that a flag asks for is used.

  Args:
    run: the trained model.
    flag: 'text' or 'question'; '' for an image alone.
    workdir: the run's folder, for the message.

  Raises:
    ConfigError: if the model was not trained for such a task.
  """
  from mmjax import tasks

  for task in run.tasks.values():
    if task.prompt is not None and task.prompt.flag == flag:
      return task.prompt
  wanted = dict.fromkeys(
    task.ability
    for task in tasks.TASKS.values()
    if task.prompt is not None and task.prompt.flag == flag
  )
  raise ConfigError(f'{workdir}: {run.unable(" or ".join(wanted))}')


def _warn_if_cut(run, texts: list[str], length: int) -> None:
  """Warns of texts that are longer than what the model reads."""
  for text in texts:
    if run.tokenizer.count(text) > length:
      print(
        f'{text!r} has {run.tokenizer.count(text)} tokens; the model reads the '
        f'first {length}',
        file=sys.stderr,
      )
