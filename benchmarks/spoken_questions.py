r"""Writes spoken questions with short answers, as a table for import.

Capitals, opposites and sums, read aloud by Flite's voices (`apt-get install
flite`), a file each:

  python -m benchmarks.spoken_questions --output=spoken
  mmjax data import --format=jsonl --input=spoken/questions.jsonl \
    --fields=sounds=sounds:messages,turns=turns:messages \
    --split_names=voice=voice,sums=sums --name=spoken_questions

`train` has three voices, and four of five sums. `voice` has the same questions
in a fourth voice, and `sums` the others in the three.
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess

from benchmarks import text_questions
from mmjax.data import splitting

_VOICES = 'slt', 'rms', 'kal16'
_HELD_OUT = 'awb'
_LARGEST = 12  # Of the numbers that are added.


def main() -> None:
  """Writes the sounds and the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--output', type=pathlib.Path, required=True)
  args = parser.parse_args()
  if shutil.which('flite') is None:
    parser.error('flite is not installed; run: apt-get install flite')
  args.output.mkdir(parents=True)
  rows = []
  for number, (question, answer) in enumerate(make_questions()):
    for voice in (*_VOICES, _HELD_OUT):
      split = find_split(question, voice)
      if split is None:
        continue
      name = f'{number}-{voice}.wav'
      path = args.output / name
      command = ['flite', '-voice', voice, '-t', question, '-o', str(path)]
      subprocess.run(command, check=True)
      messages = [
        {'role': 'system', 'content': 'Answer.'},
        {'role': 'user', 'content': [{'type': 'audio', 'audio': name}]},
        {'role': 'assistant', 'content': answer},
      ]
      rows.append({'split': split, 'messages': messages, 'said': question})
  random.Random(0).shuffle(rows)
  lines = (json.dumps(row) + '\n' for row in rows)
  (args.output / 'questions.jsonl').write_text(''.join(lines))
  print(f'{len(rows)} questions in {args.output}')


def make_questions() -> list[tuple[str, str]]:
  """Questions and their answers."""
  numbers = range(1, _LARGEST + 1)
  return [
    *text_questions.make_word_questions(),
    *((f'What is {a} plus {b}?', str(a + b)) for a in numbers for b in numbers),
  ]


def find_split(question: str, voice: str) -> str | None:
  """The split of a question in a voice; None if it is in none."""
  parts = {'train': 0.8, 'sums': 0.2}
  is_sum = ' plus ' in question
  if is_sum and splitting.assign(question, parts) == 'sums':
    return None if voice == _HELD_OUT else 'sums'
  return 'voice' if voice == _HELD_OUT else 'train'


if __name__ == '__main__':
  main()
