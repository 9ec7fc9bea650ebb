"""`mmjax predict`: runs a trained model on image files."""

import argparse
import sys

from mmjax.cli import arguments
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
  parser = arguments.Parser(
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
  _check_flags(args, parser)
  from mmjax.data import images

  by_path = {}
  for path in args.image:
    with arguments.naming(f'--image={path}', 'read'):
      by_path[path] = images.to_array(path)
  # JAX is imported late, so that the errors above come at once.
  from mmjax.runs import rebuild

  run = rebuild.load(args.workdir)
  weights = 'EMA of the weights' if run.is_ema else 'weights'
  print(f'{args.workdir}: {weights} of step {run.step}', file=sys.stderr)
  _check_able(run, args)
  for path, image in by_path.items():
    if len(by_path) > 1:
      print(f'{path}:')
    for line in _predict(run, image, args):
      print(line)
  return 0


def _check_flags(args, parser: argparse.ArgumentParser) -> None:
  """Refuses flags that ask for nothing, or for two things."""
  if args.question is not None and args.text:
    parser.error('--question and --text ask for different things; use one')
  asked = [] if args.question is None else [args.question]
  for flag, texts in (('--question', asked), ('--text', args.text or [])):
    if not all(map(str.strip, texts)):
      parser.error(f'{flag} is empty; give it a text')
  if args.beam_size < 1:
    parser.error(f'--beam_size={args.beam_size} is not legal; use 1 or more')


def _check_able(run, args) -> None:
  """Raises if the model was not trained for the task."""
  wanted = 'caption an image'
  if args.question is not None:
    wanted = 'answer a question'
  elif args.text:
    wanted = 'embed images and texts'
  try:
    run.check_able(wanted)
  except ValueError as error:
    raise ConfigError(f'{args.workdir}: {error}') from error


def _predict(run, image, args) -> list[str]:
  """Lines to print about one image, uint8 [H, W, 3]."""
  import numpy as np

  if args.text:
    _warn_if_cut(run, args.text, run.preprocess.text_length)
    scores = np.asarray(run.encode_text(args.text) @ run.encode_image(image)[0])
    return [
      'cosine  text',
      *(f'{scores[i]:6.3f}  {args.text[i]}' for i in np.argsort(-scores)),
    ]
  if args.question is None:
    return run.caption(image, beam_size=args.beam_size)
  _warn_if_cut(run, [args.question], run.preprocess.question_length)
  if not run.preprocess.answers:
    return run.answer(image, args.question, beam_size=args.beam_size)
  logits = run.answer_logits(run.question_batch(image, args.question))[0]
  probabilities = np.exp(logits - np.logaddexp.reduce(logits))
  best = np.argsort(-probabilities)[:3]
  return [
    '  prob  answer',
    *(f'{probabilities[i]:6.1%}  {run.preprocess.answers[i]}' for i in best),
  ]


def _warn_if_cut(run, texts: list[str], length: int) -> None:
  """Warns of texts that are longer than what the model reads."""
  for text in texts:
    if run.tokenizer.count(text) > length:
      print(
        f'{text!r} has {run.tokenizer.count(text)} tokens; the model reads the '
        f'first {length}',
        file=sys.stderr,
      )
