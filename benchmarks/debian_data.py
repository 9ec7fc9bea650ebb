r"""Writes tables of real recordings and drawings from two Debian packages.

Both are free and small. On Debian or Ubuntu, `apt-get download PACKAGE` and
`dpkg-deb -x PACKAGE.deb ROOT` unpack them anywhere:

  asterisk-core-sounds-en-wav, asterisk-core-sounds-en
      568 spoken prompts of a telephone exchange, with their texts
  tuxpaint-stamps-default
      644 drawings with captions in many languages and spoken descriptions

  python -m benchmarks.debian_data prompts --root=ROOT --output=prompts.csv
  mmjax data import --format=csv --input=prompts.csv --name=prompts \
    --fields=voice=sound:voice --splits=train:0.8,test:0.2

  python -m benchmarks.debian_data stamps --root=ROOT --output=stamps.jsonl
  mmjax data import --format=jsonl --input=stamps.jsonl --name=stamps \
    --images=ROOT --fields=voice=sound:voice,names=text:names \
    --splits=train:0.8,test:0.2

  python -m benchmarks.debian_data names --root=ROOT --output=names.jsonl
  mmjax data import --format=jsonl --input=names.jsonl --name=names \
    --fields=source=text:source,target=text:target \
    --split_names=unseen=unseen

The drawings of names are small copies, in the folder names_images.
"""

import argparse
import csv
import gzip
import itertools
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

from PIL import Image

from mmjax.data import images, splitting

_PROMPTS = 'usr/share/asterisk/sounds'
_TEXTS = 'usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz'
_STAMPS = 'usr/share/tuxpaint/stamps'
VOICE = 'fr'  # The language with the most spoken descriptions.
# Languages of which each is translated to each other one of its group.
GROUPS = (('es', 'gl', 'pt', 'ast'), ('sr', 'sr@latin'))
# A pair that training lacks, though it has both languages.
UNSEEN = ('ast', 'pt')
_MOST_BYTES = 40
# Pixels. Each drawing of names is in up to 13 records, and read in each step.
_SMALL = 64


def main() -> None:
  """Writes one of the tables."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('data', choices=('prompts', 'stamps', 'names'))
  parser.add_argument('--root', type=pathlib.Path, required=True)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  args = parser.parse_args()
  if args.data == 'prompts':
    rows = list(read_prompts(args.root))
    with args.output.open('w', newline='') as file:
      writer = csv.DictWriter(file, ['id', 'voice', 'caption'])
      writer.writeheader()
      writer.writerows(rows)
  else:
    read = read_stamps if args.data == 'stamps' else read_names
    rows = list(read(args.root))
    if args.data == 'names':
      folder = args.output.with_name(f'{args.output.stem}_images')
      rows = write_small_images(rows, args.root, folder)
    lines = (json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
    args.output.write_text(''.join(lines), 'utf-8')
  print(f'{len(rows)} rows in {args.output}')


def read_prompts(root: pathlib.Path) -> Iterator[dict[str, str]]:
  """Yields prompts: `id`, `voice` (a path) and `caption`.

  Sounds without words, whose text is in brackets, are left out, and so is each
  further prompt of the same text: no retrieval could distinguish them apart.
  """
  seen = set()
  with gzip.open(root / _TEXTS, 'rt', encoding='utf-8') as file:
    for line in file:
      name, colon, text = line.strip().partition(':')
      text = text.strip()
      if line.startswith(';') or not colon or not text or text[0] in '[(':
        continue
      paths = sorted((root / _PROMPTS).glob(f'*/{name}.wav'))
      if paths and text.lower() not in seen:
        seen.add(text.lower())
        yield {'id': name, 'voice': str(paths[0].resolve()), 'caption': text}


def read_stamps(root: pathlib.Path) -> Iterator[dict]:
  """Yields drawings with what is written and said about each.

  `image` is a path below `root`, `caption` English, `names` lists of texts by
  language, `voice` the path of a spoken French description, and `kind` the
  first folder, such as 'animals'. Each further drawing of the same caption is
  left out, such as an outline of a filled letter: no retrieval could
  distinguish them, and in another split it would give away what is predicted.
  """
  stamps = root / _STAMPS
  seen = set()
  for path in sorted(stamps.rglob('*.txt')):
    image = path.with_suffix('.png')
    if not image.exists():
      continue
    lines = path.read_text('utf-8', errors='replace').splitlines()
    names = {'en': [lines[0].strip()]} if lines and lines[0].strip() else {}
    for line in lines[1:]:
      language, equals, text = line.partition('.utf8=')
      if equals and text.strip():
        names[language.strip()] = [text.strip()]
    if 'en' not in names:
      continue
    key = ' '.join(re.findall(r'\w+', names['en'][0].lower()))
    if key in seen:
      continue
    seen.add(key)
    voice = image.with_name(f'{image.stem}_desc_{VOICE}.ogg')
    folders = image.relative_to(stamps).parent.parts
    row = {
      'id': str(image.relative_to(stamps).with_suffix('')),
      'image': str(image.relative_to(root)),
      'caption': names['en'][0],
      'names': names,
      'kind': folders[0],
    }
    if voice.exists():
      row['voice'] = str(voice.relative_to(root))
    yield row


def read_names(root: pathlib.Path) -> Iterator[dict[str, str]]:
  """Yields names of drawings in pairs of languages, one row a pair.

  `image` is a path below `root`. `source` begins with the language to translate
  to, as in Johnson et al. 2017: '<gl> Un perro.'; `target` is the name in it;
  `pair` has both languages. All pairs of a drawing are in the `split` 'train'
  or 'test', and so are all drawings that share a name in one of the languages;
  those of the pair `UNSEEN` are in 'unseen' instead of 'test', and never in
  'train'. Names of more than 40 bytes are left out.
  """
  stamps = list(read_stamps(root))
  groups = _join_by_name(
    [row['names'] for row in stamps],
    [name for group in GROUPS for name in group],
  )
  pairs = [
    pair for group in GROUPS for pair in itertools.permutations(group, 2)
  ]
  for number, row in enumerate(stamps):
    names = row['names']
    split = splitting.assign(groups[number], {'train': 0.8, 'test': 0.2})
    for source, target in pairs:
      texts = [names.get(language, [''])[0] for language in (source, target)]
      if not all(0 < len(text.encode()) <= _MOST_BYTES for text in texts):
        continue
      is_unseen = (source, target) == UNSEEN
      if is_unseen and split == 'train':
        continue
      yield {
        'id': f'{number:03} {source} {target}',
        'image': row['image'],
        'source': f'<{target}> {texts[0]}',
        'target': texts[1],
        'pair': f'{source} {target}',
        'split': 'unseen' if is_unseen else split,
      }


def write_small_images(
  rows: Sequence[Mapping[str, str]], root: pathlib.Path, folder: pathlib.Path
) -> list[dict[str, str]]:
  """Writes a small copy of each image of some rows.

  Args:
    rows: their `image` is a path below `root`.
    root: folder of the images.
    folder: where the copies go.

  Returns:
    The rows, with the path of the copy, relative to the folder's parent.
  """
  folder.mkdir(exist_ok=True)
  copies = {row['image']: '' for row in rows}
  for number, path in enumerate(copies):
    copy = folder / f'{number:03}.png'
    pixels = images.to_array(root / path)
    Image.fromarray(images.resize(pixels, (_SMALL, _SMALL), 'pad')).save(copy)
    copies[path] = f'{folder.name}/{copy.name}'
  return [{**row, 'image': copies[row['image']]} for row in rows]


def _join_by_name(
  stamps: Sequence[Mapping[str, Sequence[str]]], languages: Sequence[str]
) -> list[str]:
  """The group of each drawing: drawings that share a name share a group."""
  parents = list(range(len(stamps)))

  def find(number: int) -> int:
    while parents[number] != number:
      number = parents[number]
    return number

  first: dict[tuple[str, str], int] = {}
  for number, names in enumerate(stamps):
    for language in languages:
      for text in names.get(language, ()):
        key = (language, text.lower())
        parents[find(number)] = find(first.setdefault(key, number))
  return [f'{find(number):03}' for number in range(len(stamps))]


if __name__ == '__main__':
  main()
