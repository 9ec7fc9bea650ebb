"""Answers a tuned language model's text questions as before its tuning?

  python -m benchmarks.text_questions --model=SmolLM2.gguf --run=runs/chat_emoji

Asks a published language model and a run that was tuned from it the same 100
questions without an image: capitals, opposites, sums. Prints how many answers
each has right (the expected word is in the answer), and how many are the same
word for word.
"""

import re
import statistics

from absl import app, flags

import mmjax

_MODEL = flags.DEFINE_string('model', None, 'published model', required=True)
_RUN = flags.DEFINE_string('run', None, 'run tuned from it', required=True)
_NEW = flags.DEFINE_integer(
  'max_new_tokens', 24, 'tokens of an answer', lower_bound=1
)

_CAPITALS = """Argentina Buenos Aires, Australia Canberra, Austria Vienna,
Belgium Brussels, Brazil Brasilia, Bulgaria Sofia, Canada Ottawa, Chile
Santiago, China Beijing, Colombia Bogota, Croatia Zagreb, Cuba Havana, Denmark
Copenhagen, Egypt Cairo, Ethiopia Addis Ababa, Finland Helsinki, France Paris,
Germany Berlin, Ghana Accra, Greece Athens, Hungary Budapest, Iceland Reykjavik,
India New Delhi, Indonesia Jakarta, Iran Tehran, Iraq Baghdad, Ireland Dublin,
Italy Rome, Japan Tokyo, Kenya Nairobi, Mexico Mexico City, Morocco Rabat,
Nepal Kathmandu, Norway Oslo, Peru Lima, Poland Warsaw, Portugal Lisbon, Russia
Moscow, Spain Madrid, Sweden Stockholm"""
_OPPOSITES = """hot cold, big small, up down, left right, day night, open
closed, fast slow, old young, happy sad, light dark, early late, rich poor, hard
soft, strong weak, high low, wet dry, clean dirty, full empty, loud quiet, front
back, inside outside, above below, near far, love hate, win lose, buy sell, true
false, first last, push pull, begin end"""
_SUMS = 30


def make_questions() -> list[tuple[str, str]]:
  """Makes the questions, each with a word that a right answer has."""
  return [
    *make_word_questions(),
    *(
      (f'What is {a} plus {b}?', str(a + b))
      for a, b in ((1 + i % 10, 1 + i * 7 % 13) for i in range(_SUMS))
    ),
  ]


def make_word_questions() -> list[tuple[str, str]]:
  """Those for capitals and opposites."""
  pairs = lambda text: [p.split(maxsplit=1) for p in text.split(',')]
  return [
    *((f'What is the capital of {a}?', b) for a, b in pairs(_CAPITALS)),
    *((f'What is the opposite of {a}?', b) for a, b in pairs(_OPPOSITES)),
  ]


def _ask(model) -> list[str]:
  """Answers of a model, each in a conversation of its own."""
  return [
    model.chat(
      [{'role': 'user', 'content': question}], max_new_tokens=_NEW.value
    )
    for question, _ in make_questions()
  ]


def _is_right(answer: str, expected: str) -> bool:
  return bool(re.search(rf'\b{re.escape(expected)}\b', answer, re.IGNORECASE))


def main(argv) -> None:
  """Prints the table."""
  del argv
  before = _ask(mmjax.load(_MODEL.value))
  after = _ask(mmjax.load(_RUN.value))
  questions = make_questions()
  print('| questions | right before | right after | same answer |')
  print('|---|---|---|---|')
  for kind, word in (
    ('capitals', 'capital'),
    ('opposites', 'opposite'),
    ('sums', 'plus'),
    ('all', ''),
  ):
    rows = [
      (_is_right(a, expected), _is_right(b, expected), a == b)
      for (question, expected), a, b in zip(
        questions, before, after, strict=True
      )
      if word in question
    ]
    means = (
      f'{statistics.mean(column):.2f}' for column in zip(*rows, strict=True)
    )
    print(f'| {kind} ({len(rows)}) | {" | ".join(means)} |')
  for (question, _), a, b in list(zip(questions, before, after, strict=True))[
    ::20
  ]:
    print(f'{question}\n  before: {a!r}\n  after:  {b!r}')


if __name__ == '__main__':
  app.run(main)
