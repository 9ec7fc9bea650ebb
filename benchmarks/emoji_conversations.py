r"""Writes conversations about drawings of emoji, as a table for import.

Each drawing gets short conversations: its name, its group, and whether a tag
belongs to it. The input are the tars that `configs/contrastive_emoji.py`
describes, one a drawing style:

  python -m benchmarks.emoji_conversations --input='emoji/*.tar' \
    --output=emoji_chat
  mmjax data import --format=jsonl --input=emoji_chat/conversations.jsonl \
    --name=emoji_chat --fields=turns=turns:turns \
    --split_names=known_names=known_names,known_groups=known_groups,\
known_tags=known_tags,unseen_names=unseen_names,\
unseen_groups=unseen_groups,unseen_tags=unseen_tags

Concepts have the splits of `emoji` there. `train` has those of its training in
the styles other than the held-out one, with two conversations about the name
for each about something else. `known_...` have the same concepts in the
held-out style, and `unseen_...` those of `test` in all styles. `validation` has
the names of training's concepts in the held-out style as well, of a tenth of
them, which `known_...` lack.
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
_NAME = ('What is this?', 'What does the drawing show?', 'Name it.')
_GROUP = 'Which group is it from?'
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
  rows = []
  for sample in sorted(samples, key=lambda sample: sample['file']):
    concept = splitting.assign(sample['hexcode'], _SPLITS)
    is_held_out = sample['style'] == HELD_OUT
    asked = {
      'names': (_NAME[0], sample['caption']),
      'groups': (_GROUP, sample['group'].replace('-', ' and ')),
      'tags': _ask_tag(sample, tags, rng),
    }
    if concept == 'train' and not is_held_out:
      names = rng.sample(_NAME, 2)
      other = rng.choice(('groups', 'tags', 'tags'))
      pairs = [(name, sample['caption']) for name in names] + [asked[other]]
      rows += [_make_row(sample, 'train', i, *p) for i, p in enumerate(pairs)]
    elif concept == 'train' and _is_for_validation(sample):
      rows.append(_make_row(sample, 'validation', 0, *asked['names']))
    elif concept in ('train', 'test'):
      seen = 'known' if concept == 'train' else 'unseen'
      for number, (name, pair) in enumerate(asked.items()):
        rows.append(_make_row(sample, f'{seen}_{name}', number, *pair))
  rng.shuffle(rows)
  yield from rows


def _is_for_validation(sample: dict[str, Any]) -> bool:
  parts = {'validation': 0.1, 'test': 0.9}
  return splitting.assign(f'{sample["hexcode"]} held out', parts) != 'test'


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
  sample: dict[str, Any], split: str, number: int, question: str, answer: str
) -> dict[str, Any]:
  content = [{'type': 'image'}, {'type': 'text', 'text': question}]
  return {
    'id': f'{pathlib.Path(sample["file"]).stem} {number}',
    'image': sample['file'],
    'hexcode': sample['hexcode'],
    'style': sample['style'],
    'split': split,
    'turns': [
      {'role': 'system', 'content': _SYSTEM},
      {'role': 'user', 'content': content},
      {'role': 'assistant', 'content': answer},
    ],
  }


if __name__ == '__main__':
  main()
