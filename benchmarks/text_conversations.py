r"""Writes conversations without images, in a language model's own words.

  python -m benchmarks.text_conversations --model=$decoder \
    --output=emoji_chat/texts.jsonl

A language model that is tuned on other conversations forgets how it answered.
Some of its own answers among them keep it (Li and Hoiem 2016, Learning without
Forgetting). These are the first sentences of its greedy answers to questions of
other kinds than those of `benchmarks/text_questions.py`, which measures what it
forgets. Those longer than `--max_new_tokens` are left out.
"""

import json
import pathlib

from absl import app, flags

import mmjax

_MODEL = flags.DEFINE_string('model', None, 'published model', required=True)
_OUTPUT = flags.DEFINE_string('output', None, 'table to write', required=True)
_NEW = flags.DEFINE_integer('max_new_tokens', 40, 'tokens of an answer')

_WORDS = """apple, bread, bridge, candle, car, castle, cheese, clock, cloud,
desk, dog, door, eagle, elephant, farm, fish, flower, garden, guitar, hammer,
horse, island, kitchen, lamp, lion, moon, mountain, ocean, orange, pencil,
piano, planet, river, school, ship, shoe, star, train, tree, window"""
_QUESTIONS = (
  'What is {a} {word}?',
  'What is {a} {word} used for?',
  'Write a short sentence about {a} {word}.',
  'Where do people find {a} {word}?',
  'What color is {a} {word}?',
)


def make_questions() -> list[str]:
  """Makes the questions."""
  words = [word.strip() for word in _WORDS.split(',')]
  return [
    question.format(a='an' if word[0] in 'aeiou' else 'a', word=word)
    for word in words
    for question in _QUESTIONS
  ]


def main(argv) -> None:
  """Writes the table."""
  del argv
  model = mmjax.load(_MODEL.value)
  rows = []
  for number, question in enumerate(make_questions()):
    asked = {'role': 'user', 'content': question}
    answer = model.chat([asked], max_new_tokens=_NEW.value, stop=['. ', '\n'])
    answer = answer.strip()
    if len(model.tokenizer.encode(answer)) < _NEW.value - 2:
      said = {'role': 'assistant', 'content': answer.rstrip('.') + '.'}
      row = {
        'id': f'text {number}',
        'images': [],
        'style': 'none',
        'split': 'train',
        'turns': [asked, said],
      }
      rows.append(json.dumps(row, ensure_ascii=False) + '\n')
  pathlib.Path(_OUTPUT.value).write_text(''.join(rows), 'utf-8')
  print(f'{len(rows)} conversations in {_OUTPUT.value}')


if __name__ == '__main__':
  app.run(main)
