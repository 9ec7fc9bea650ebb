"""`mmjax predict`: asks a trained model about an image file."""

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
    ConfigError: if the model can't do what is asked; it says what it can.
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
    '--beam_size', type=int, default=1, help='of written texts; 1: greedy'
  )
  args = parser.parse_args(argv)
  from mmjax.data import images

  pictures = {path: images.to_array(path) for path in args.image}
  # Only now: the mistakes above should be told at once.
  from mmjax.runs import rebuild

  run = rebuild.load(args.workdir)
  _check(run, args, parser)
  for path, picture in pictures.items():
    if len(pictures) > 1:
      print(f'{path}:')
    for line in _ask(run, picture, args):
      print(line)
  return 0


def _check(run, args, parser: argparse.ArgumentParser) -> None:
  """Refuses what the model was not trained to do."""
  if args.question is not None and args.text:
    parser.error('--question and --text ask for different things; give one')
  wanted = 'caption an image'
  if args.question is not None:
    wanted = 'answer a question'
  elif args.text:
    wanted = 'embed images and texts'
  try:
    run.check_able(wanted)
  except ValueError as error:
    raise ConfigError(f'{args.workdir}: {error}') from error


def _ask(run, picture, args) -> list[str]:
  """Lines to print about one picture, uint8 [H, W, 3]."""
  import numpy as np

  if args.text:
    _tell_cut(run, args.text, run.preprocess.text_length)
    scores = np.asarray(
      run.encode_text(args.text) @ run.encode_image(picture)[0]
    )
    return [
      'cosine  text',
      *(f'{scores[i]:6.3f}  {args.text[i]}' for i in np.argsort(-scores)),
    ]
  if args.question is None:
    return run.caption(picture, beam_size=args.beam_size)
  _tell_cut(run, [args.question], run.preprocess.question_length)
  if not run.preprocess.answers:
    return run.answer(picture, args.question, beam_size=args.beam_size)
  logits = run.answer_logits(run.question_batch(picture, args.question))[0]
  shares = np.exp(logits - np.logaddexp.reduce(logits))
  best = np.argsort(-shares)[:3]
  return [
    ' share  answer',
    *(f'{shares[i]:6.1%}  {run.preprocess.answers[i]}' for i in best),
  ]


def _tell_cut(run, texts: list[str], length: int) -> None:
  """Says so where a text is longer than what the model reads."""
  for text in texts:
    if run.tokenizer.count(text) > length:
      print(
        f'{text!r} has {run.tokenizer.count(text)} tokens; the model reads the '
        f'first {length}',
        file=sys.stderr,
      )
