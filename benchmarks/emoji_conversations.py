r"""Writes conversations about drawings, as a table for import.

Most conversations of training show several numbered drawings at once, whose
names are the answer, a line each: so few tokens a drawing that a small model
sees each often. The others have a drawing a turn, and an answer about each: its
name, its group, or whether a tag belongs to it. Held-out ones have one drawing
and one question. The input are emoji, in the tars that
`configs/contrastive_emoji.py` describes, one a drawing style, and with
`--stamps` the drawings with captions that `benchmarks/debian_data.py` unpacks
to ROOT:

  python -m benchmarks.emoji_conversations --input='emoji/*.tar' \
    --stamps=ROOT --output=emoji_chat --model=SmolLM2-135M-Instruct.Q4_1.gguf
  mmjax data import --format=jsonl --input=emoji_chat/conversations.jsonl \
    --name=emoji_chat --fields=photos=images:messages,turns=turns:messages \
    --split_names=known_names=known_names,known_groups=known_groups,\
known_tags=known_tags,unseen_names=unseen_names,\
unseen_groups=unseen_groups,unseen_tags=unseen_tags,\
stamps_names=stamps_names,stamps_groups=stamps_groups

Concepts have the splits of `emoji` there. `train` has those of its training in
the styles other than the held-out one, each several times, in other company.
`known_...` have the same concepts in the held-out style, and `unseen_...` those
of `test` in all styles. `validation` has the names of training's concepts in
the held-out style as well, of a tenth of them, which `known_...` lack. A tenth
of the stamps is in `stamps_...`, and not in training; a stamp's name is its
caption's first sentence, and its group the folder that it is in.

With `--model`, training also has conversations of words alone: questions about
training's names and tags, with the first sentence of what that language model
answers, so that tuning it on drawings has something to keep.
"""

import argparse
import glob
import json
import pathlib
import random
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

import mmjax
from benchmarks import debian_data
from mmjax.data import splitting
from mmjax.pretrained import chats

HELD_OUT = 'noto'
_SPLITS = {'train': 0.8, 'validation': 0.1, 'test': 0.1}
_NAME = 'What is this?'
_GROUP = 'Which group is it from?'
_LIST = 'Name each.'
# Asked of stamps, whose captions are descriptions, and whose groups are others.
_DESCRIBE = 'Describe it.'
_KIND = 'What kind is it?'
_DESCRIBE_LIST = 'Describe each.'
_STAMPS = 'stamps'
_MOST_WORDS = 6  # Of a stamp's caption.
_SYSTEM = 'You name drawings.'
_LISTED = 9  # Drawings of a list: their numbers are one token each.
_DRAWINGS = 6  # Of a conversation with a drawing a turn.
_ROUNDS = 8  # How often training has each drawing.
_LISTS = 0.8  # Share of the drawings that a round has in lists.
_WORDS = ('What is {}?', 'What is a {} for?', 'Write a sentence with "{}".')
_NUM_WORDS = 480
_BATCH = 32
_NEW_TOKENS = 40


def main() -> None:
  """Writes the drawings and the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--input', required=True)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('--stamps', type=pathlib.Path)
  parser.add_argument('--model')
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
  if args.stamps:
    samples += read_stamps(args.stamps, args.output)
  rows = list(make_rows(samples))
  if args.model:
    rows += ask_words(args.model, samples)
  random.Random(0).shuffle(rows)
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


def read_stamps(
  root: pathlib.Path, output: pathlib.Path
) -> Iterator[dict[str, Any]]:
  """Yields stamps of short captions, and writes a small copy of each."""
  stamps = []
  for stamp in debian_data.read_stamps(root):
    caption = stamp['caption'].partition('. ')[0].rstrip('.')
    if len(caption.split()) <= _MOST_WORDS:
      stamps.append({**stamp, 'caption': caption})
  for stamp in debian_data.write_small_images(stamps, root, output / _STAMPS):
    yield {
      'hexcode': stamp['id'],
      'caption': stamp['caption'],
      'tags': [],
      'group': stamp['kind'],
      'style': _STAMPS,
      'file': stamp['image'],
    }


def make_rows(samples: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
  """Yields one row per conversation, in an order that a seed determines."""
  rng = random.Random(0)
  tags = sorted({tag for sample in samples for tag in sample['tags']})
  learnt = []
  for sample in sorted(samples, key=lambda sample: sample['file']):
    concept = splitting.assign(sample['hexcode'], _SPLITS)
    is_held_out = sample['style'] == HELD_OUT
    asked = _ask_all(sample, tags, rng)
    if concept == 'train' and not is_held_out:
      learnt.append(sample)
    elif concept == 'train' and _is_for_validation(sample):
      yield _make_row('validation', [(sample, *asked['names'])])
    elif concept in ('train', 'test'):
      splits = 'known' if concept == 'train' else 'unseen'
      if sample['style'] == _STAMPS:
        splits = _STAMPS
      for name, pair in asked.items():
        yield _make_row(f'{splits}_{name}', [(sample, *pair)])
  stamps = [sample for sample in learnt if sample['style'] == _STAMPS]
  emoji = [sample for sample in learnt if sample['style'] != _STAMPS]
  for _ in range(_ROUNDS):
    yield from _make_round(emoji, _LIST, tags, rng)
    yield from _make_round(stamps, _DESCRIBE_LIST, tags, rng)


def _make_round(
  learnt: list[dict[str, Any]],
  question: str,
  tags: Sequence[str],
  rng: random.Random,
) -> Iterator[dict[str, Any]]:
  """Yields conversations of training that have each drawing once."""
  rng.shuffle(learnt)
  begin = int(_LISTS * len(learnt))
  for start in range(0, begin, _LISTED):
    yield _make_list(learnt[start : min(start + _LISTED, begin)], question)
  for start in range(begin, len(learnt), _DRAWINGS):
    yield _make_row(
      'train',
      [
        (sample, *_ask(sample, tags, rng))
        for sample in learnt[start : start + _DRAWINGS]
      ],
    )


def ask_words(
  model: str, samples: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
  """Conversations without drawings, as a published language model has them."""
  words = sorted(
    {
      word
      for sample in samples
      if splitting.assign(sample['hexcode'], _SPLITS) == 'train'
      for word in (sample['caption'], *sample['tags'])
      if word.isalpha()
    }
  )
  rng = random.Random(0)
  words = rng.sample(words, _NUM_WORDS)
  questions = [_WORDS[i % len(_WORDS)].format(w) for i, w in enumerate(words)]
  loaded = mmjax.load(model)
  rows = []
  for start in range(0, len(questions), _BATCH):
    part = questions[start : start + _BATCH]
    asked = [[{'role': 'user', 'content': question}] for question in part]
    prompts = [chats.render_prompt(loaded.chat_template, x) for x in asked]
    answers = loaded.continue_batch(
      *loaded.prepare_prompts(prompts, _NEW_TOKENS), max_new_tokens=_NEW_TOKENS
    )
    for messages, answer in zip(asked, answers, strict=True):
      sentence, end, _ = answer.strip().partition('. ')
      if end or sentence.endswith('.'):
        reply = {'role': 'assistant', 'content': sentence.rstrip('.') + '.'}
        rows.append({'split': 'train', 'messages': [*messages, reply]})
    print(f'{len(rows)} conversations of words', flush=True)
  return rows


def _is_for_validation(sample: dict[str, Any]) -> bool:
  parts = {'validation': 0.1, 'test': 0.9}
  return splitting.assign(f'{sample["hexcode"]} held out', parts) != 'test'


def _ask(
  sample: dict[str, Any], tags: Sequence[str], rng: random.Random
) -> tuple[str, str]:
  """A question of training: a name in half of all cases."""
  asked = _ask_all(sample, tags, rng)
  kind = rng.random()
  if kind < 0.5:
    return asked['names']
  return asked['groups' if kind < 0.7 or 'tags' not in asked else 'tags']


def _ask_all(
  sample: dict[str, Any], tags: Sequence[str], rng: random.Random
) -> dict[str, tuple[str, str]]:
  """Each kind of question about a drawing, with its answer."""
  if sample['style'] == _STAMPS:
    return {
      'names': (_DESCRIBE, sample['caption']),
      'groups': (_KIND, sample['group']),
    }
  return {
    'names': (_NAME, sample['caption']),
    'groups': (_GROUP, sample['group'].replace('-', ' and ')),
    'tags': _ask_tag(sample, tags, rng),
  }


def _ask_tag(
  sample: dict[str, Any], tags: Sequence[str], rng: random.Random
) -> tuple[str, str]:
  """A question about a tag, of its own in half of all cases."""
  own = [tag for tag in sample['tags'] if tag != sample['caption']]
  is_own = bool(own) and rng.random() < 0.5
  others = [tag for tag in rng.sample(tags, 8) if tag not in sample['tags']]
  tag = rng.choice(own) if is_own else others[0]
  return f'Does "{tag}" fit?', 'yes' if is_own else 'no'


def _make_row(
  split: str, turns: Sequence[tuple[dict[str, Any], str, str]]
) -> dict[str, Any]:
  """A row of drawings, each with a question and its answer."""
  messages = [{'role': 'system', 'content': _SYSTEM}]
  for sample, question, answer in turns:
    image = {'type': 'image', 'image': sample['file']}
    content = [image, {'type': 'text', 'text': question}]
    messages += [
      {'role': 'user', 'content': content},
      {'role': 'assistant', 'content': answer},
    ]
  return {'split': split, 'messages': messages}


def _make_list(
  samples: Sequence[dict[str, Any]], question: str
) -> dict[str, Any]:
  """A row of training: numbered drawings, and their names."""
  content, names = [], []
  for number, sample in enumerate(samples, 1):
    content += [
      {'type': 'text', 'text': str(number)},
      {'type': 'image', 'image': sample['file']},
    ]
    names.append(f'{number} {sample["caption"]}')
  content.append({'type': 'text', 'text': question})
  messages = [
    {'role': 'system', 'content': _SYSTEM},
    {'role': 'user', 'content': content},
    {'role': 'assistant', 'content': '\n'.join(names)},
  ]
  return {'split': 'train', 'messages': messages}


if __name__ == '__main__':
  main()
