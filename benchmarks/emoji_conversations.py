r"""Writes conversations about drawings of emoji, as a table for import.

A drawing's name is asked, its group, and whether a tag belongs to it. The input
are the tars that `configs/contrastive_emoji.py` describes, one a drawing style:

  python -m benchmarks.emoji_conversations --input='emoji/*.tar' \
    --output=emoji_chat
  python -m benchmarks.text_conversations --model=$decoder \
    --output=emoji_chat/texts.jsonl
  mmjax data import --format=jsonl --input='emoji_chat/*.jsonl' \
    --name=emoji_chat --fields=photos=images:images,turns=turns:turns \
    --split_names=known_names=known_names,known_groups=known_groups,\
known_tags=known_tags,unseen_names=unseen_names,\
unseen_groups=unseen_groups,unseen_tags=unseen_tags

The second line is for conversations without images, see there.

Concepts have the splits of `emoji` there. `train` has those of its training in
the styles other than the held-out one, several drawings a conversation, each
drawing in several: questions, four of six about names, or lists, where the
assistant has a name behind each drawing. All others have one drawing and one
question. `known_...` have the concepts of training in the held-out style, and
`unseen_...` those of `test` in all styles. `validation` has the names of
training's concepts in the held-out style as well, of a tenth of them, which
`known_...` lack.
"""

import argparse
import glob
import json
import pathlib
import random
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

from mmjax.data import splitting

HELD_OUT = 'noto'
_SPLITS = {'train': 0.8, 'validation': 0.1, 'test': 0.1}
# Of training: drawings a conversation, and how often each drawing is in one.
_ASKED, _ASKED_ROUNDS = 6, 3
_LISTED, _LISTED_ROUNDS = 18, 15
_SYSTEM = 'You name drawings.'


def main() -> None:
  """Writes the drawings and the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--input', required=True)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  args = parser.parse_args()
  paths = sorted(map(pathlib.Path, glob.glob(args.input)))
  if not paths:
    parser.error(f'--input={args.input!r} matches no file')
  args.output.mkdir(parents=True)
  samples = []
  for path in paths:
    for sample in read(path):
      file = args.output / f'{sample["style"]}-{sample["hexcode"]}.png'
      file.write_bytes(sample.pop('image'))
      samples.append({**sample, 'file': file.name})
  rows = list(make_rows(samples))
  lines = (json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
  (args.output / 'conversations.jsonl').write_text(''.join(lines), 'utf-8')
  print(f'{len(rows)} conversations in {args.output}')


def read(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Yields the drawings of a tar: `image`, `style` and its JSON's fields."""
  with tarfile.open(path) as tar:
    members: dict[str, dict[str, bytes]] = {}
    for member in tar:
      key, _, ending = member.name.partition('.')
      members.setdefault(key, {})[ending] = tar.extractfile(member).read()
  for files in members.values():
    yield {
      **json.loads(files['json']),
      'image': files['png'],
      'style': path.stem,
    }


def make_rows(samples: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
  """Yields one row per conversation, in an order that a seed determines."""
  rng = random.Random(0)
  tags = sorted({tag for sample in samples for tag in sample['tags']})
  rows, learnt = [], []
  for sample in sorted(samples, key=lambda sample: sample['file']):
    concept = splitting.assign(sample['hexcode'], _SPLITS)
    is_held_out = sample['style'] == HELD_OUT
    if concept == 'train' and not is_held_out:
      learnt.append(sample)
    elif concept == 'train' and _is_for_validation(sample):
      rows.append(_make_row('validation', [(sample, *_ask_name(sample))]))
    elif concept in ('train', 'test'):
      seen = 'known' if concept == 'train' else 'unseen'
      for kind, asked in (
        ('names', _ask_name(sample)),
        ('groups', _ask_group(sample)),
        ('tags', _ask_tag(sample, tags, rng)),
      ):
        rows.append(_make_row(f'{seen}_{kind}', [(sample, *asked)]))
  for number, rounds, make in (
    (_ASKED, _ASKED_ROUNDS, _ask_each),
    (_LISTED, _LISTED_ROUNDS, _list_names),
  ):
    for _ in range(rounds):
      rng.shuffle(learnt)
      for start in range(0, len(learnt), number):
        rows.append(make(learnt[start : start + number], tags, rng))
  rng.shuffle(rows)
  for number, row in enumerate(rows):
    yield {'id': str(number), **row}


def _is_for_validation(sample: dict[str, Any]) -> bool:
  parts = {'validation': 0.1, 'test': 0.9}
  return splitting.assign(f'{sample["hexcode"]} held out', parts) != 'test'


def _ask_each(
  samples: Sequence[dict[str, Any]], tags: Sequence[str], rng: random.Random
) -> dict[str, Any]:
  """A conversation with a question about each drawing."""
  asked = []
  for sample in samples:
    kind = rng.choices(('name', 'group', 'tag'), (4, 1, 1))[0]
    if kind == 'name':
      asked.append((sample, *_ask_name(sample)))
    elif kind == 'group':
      asked.append((sample, *_ask_group(sample)))
    else:
      asked.append((sample, *_ask_tag(sample, tags, rng)))
  return _make_row('train', asked)


def _list_names(
  samples: Sequence[dict[str, Any]], tags: Sequence[str], rng: random.Random
) -> dict[str, Any]:
  """A conversation that names each drawing behind it."""
  del tags, rng
  named = []
  for sample in samples:
    text = {'type': 'text', 'text': f'{sample["caption"]}\n'}
    named += [{'type': 'image'}, text]
  turns = [
    {'role': 'system', 'content': _SYSTEM},
    {'role': 'user', 'content': 'Name each drawing.'},
    {'role': 'assistant', 'content': named},
  ]
  return _make_record('train', samples, turns)


def _ask_name(sample: dict[str, Any]) -> tuple[str, str]:
  return 'What is this?', sample['caption']


def _ask_group(sample: dict[str, Any]) -> tuple[str, str]:
  return 'Which group is it from?', sample['group'].replace('-', ' and ')


def _ask_tag(
  sample: dict[str, Any], tags: Sequence[str], rng: random.Random
) -> tuple[str, str]:
  """A question about a tag, of its own in half of all cases."""
  own = [tag for tag in sample['tags'] if tag != sample['caption']]
  is_custom = bool(own) and rng.random() < 0.5
  others = [tag for tag in rng.sample(tags, 8) if tag not in sample['tags']]
  tag = rng.choice(own) if is_custom else others[0]
  return f'Does "{tag}" fit?', 'yes' if is_custom else 'no'


def _make_row(
  split: str, asked: Sequence[tuple[dict[str, Any], str, str]]
) -> dict[str, Any]:
  """A conversation of drawings, each with a question and its answer."""
  turns: list[dict[str, Any]] = [{'role': 'system', 'content': _SYSTEM}]
  for _, question, answer in asked:
    content = [{'type': 'image'}, {'type': 'text', 'text': question}]
    turns.append({'role': 'user', 'content': content})
    turns.append({'role': 'assistant', 'content': answer})
  return _make_record(split, [sample for sample, _, _ in asked], turns)


def _make_record(
  split: str, samples: Sequence[dict[str, Any]], turns: list[dict[str, Any]]
) -> dict[str, Any]:
  return {
    'images': [sample['file'] for sample in samples],
    'style': samples[0]['style'] if len(samples) == 1 else 'several',
    'split': split,
    'turns': turns,
  }


if __name__ == '__main__':
  main()
