r"""Has questions about drawings spoken, as a table for import.

  python -m benchmarks.spoken_questions --input=emoji_chat --output=spoken_emoji

The input is the folder that `benchmarks/emoji_conversations.py` and
`benchmarks/text_conversations.py` wrote. A question about a drawing is spoken
after the drawing, one of words alone by itself, by voices of the program
`flite` (Debian's package of that name): three in training, another one in all
other splits. These have the concepts of training in the style that training
lacks, `names`, `groups` and `tags`, and `words`, a tenth of the questions
without a drawing, which training lacks too. What is longer than `--seconds` is
left out.
"""

import io
import json
import pathlib
import random
import shutil
import subprocess
import wave
from collections.abc import Iterator
from typing import Any

from absl import app, flags

from mmjax.data import splitting

_INPUT = flags.DEFINE_string('input', None, 'folder to read', required=True)
_OUTPUT = flags.DEFINE_string('output', None, 'folder to write', required=True)
_SECONDS = flags.DEFINE_float('seconds', 3.0, 'of the longest sound')
_NUMBER = flags.DEFINE_integer('number', 400, 'conversations of a test split')

_VOICES = ('slt', 'rms', 'kal16')
_HELD_OUT = 'awb'
_RATE = 16_000
_TEXTS = {'train': 0.9, 'words': 0.1}


def main(argv) -> None:
  """Writes the sounds, the drawings and the table."""
  del argv
  folder, rng = pathlib.Path(_INPUT.value), random.Random(0)
  output = pathlib.Path(_OUTPUT.value)
  output.mkdir(parents=True)
  conversations = [
    json.loads(line)
    for path in sorted(folder.glob('*.jsonl'))
    for line in path.open(encoding='utf-8')
  ]
  rows = []
  for split, images, question, answer in _choose(conversations, rng):
    voice = rng.choice(_VOICES) if split == 'train' else _HELD_OUT
    sound = speak(question, voice)
    if _measure(sound) > _SECONDS.value:
      continue
    name = f'{len(rows)}.wav'
    (output / name).write_bytes(sound)
    for image in images:
      shutil.copy(folder / image, output / image)
    content = [{'type': 'image'}] * len(images) + [{'type': 'audio'}]
    turns = [
      {'role': 'user', 'content': content},
      {'role': 'assistant', 'content': answer},
    ]
    rows.append(
      {
        'id': str(len(rows)),
        'images': images,
        'sounds': [name],
        'question': question,
        'split': split,
        'turns': turns,
      }
    )
  lines = (json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
  (output / 'conversations.jsonl').write_text(''.join(lines), 'utf-8')
  print(f'{len(rows)} conversations in {output}')


def speak(text: str, voice: str) -> bytes:
  """A text's WAVE file, 16-bit samples of one channel."""
  return subprocess.run(
    ['flite', '-voice', voice, '-t', text, '-o', '/dev/stdout'],
    check=True,
    capture_output=True,
  ).stdout


def _measure(data: bytes) -> float:
  with wave.open(io.BytesIO(data)) as sound:
    if sound.getframerate() != _RATE:
      raise ValueError(f'flite wrote {sound.getframerate()} samples a second')
    return (len(data) - 44) / 2 / _RATE


def _choose(
  conversations: list[dict[str, Any]], rng: random.Random
) -> Iterator[tuple[str, list[str], str, str]]:
  """Yields split, images, question and answer of each conversation."""
  counts = dict.fromkeys(('names', 'groups', 'tags', 'words'), 0)
  for row in conversations:
    turns = [turn for turn in row['turns'] if turn['role'] != 'system']
    split = row['split'].removeprefix('known_')
    if not row['images']:
      split = splitting.assign(turns[0]['content'], _TEXTS)
    if split != 'train':
      if counts.get(split, _NUMBER.value) == _NUMBER.value:
        continue
      counts[split] += 1
    # One question of each conversation of several drawings.
    start = 2 * rng.randrange(len(turns) // 2)
    asked, answered = turns[start : start + 2]
    content = asked['content']
    words = content if isinstance(content, str) else content[-1]['text']
    image = row['images'][start // 2 : start // 2 + 1]
    yield split, image, words.replace('"', ''), answered['content']


if __name__ == '__main__':
  app.run(main)
