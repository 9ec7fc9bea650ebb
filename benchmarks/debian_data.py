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
"""

import argparse
import csv
import gzip
import json
import pathlib
import re
from collections.abc import Iterator

_PROMPTS = 'usr/share/asterisk/sounds'
_TEXTS = 'usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz'
_STAMPS = 'usr/share/tuxpaint/stamps'
VOICE = 'fr'  # The language with the most spoken descriptions.


def main() -> None:
  """Writes one of the tables."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('data', choices=('prompts', 'stamps'))
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
    rows = list(read_stamps(args.root))
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


if __name__ == '__main__':
  main()
