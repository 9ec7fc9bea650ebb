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
  rows, spoken = [], {}
  for split, images, question, answer in _choose(conversations):
    voice = rng.choice(_VOICES) if split == 'train' else _HELD_OUT
    if (question, voice) not in spoken:
      sound, name = speak(question, voice), f'{len(spoken)}.wav'
      fits = _measure(sound) <= _SECONDS.value
      spoken[question, voice] = name if fits else ''
      if fits:
        (output / name).write_bytes(sound)
    if not spoken[question, voice]:
      continue
    for image in images:
      shutil.copy(folder / image, output / image)
    content = [{'type': 'image'}] * len(images) + [{'type': 'audio'}]
    rows.append(
      {
        'id': str(len(rows)),
        'images': images,
        'sounds': [spoken[question, voice]],
        'spoken': question,
        'split': split,
        'turns': [
          {'role': 'user', 'content': content},
          {'role': 'assistant', 'content': answer},
        ],
      }
    )
  lines = (json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
  (output / 'conversations.jsonl').write_text(''.join(lines), 'utf-8')
  print(f'{len(rows)} conversations and {len(spoken)} sounds in {output}')


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
  conversations: list[dict[str, Any]],
) -> Iterator[tuple[str, list[str], str, str]]:
  """Yields split, images, question and answer of each question."""
  counts = dict.fromkeys(('names', 'groups', 'tags', 'words'), 0)
  for row in conversations:
    turns = [turn for turn in row['turns'] if turn['role'] != 'system']
    if len(row['images']) > len(turns) // 2:
      continue  # A list of names.
    split = row['split'].removeprefix('known_')
    if not row['images']:
      split = splitting.assign(turns[0]['content'], _TEXTS)
    if split != 'train':
      if counts.get(split, _NUMBER.value) == _NUMBER.value:
        continue
      counts[split] += 1
    for number in range(len(turns) // 2):
      asked, answered = (turn['content'] for turn in turns[2 * number :][:2])
      words = asked if isinstance(asked, str) else asked[-1]['text']
      images = row['images'][number : number + 1]
      yield split, images, words.replace('"', ''), answered


if __name__ == '__main__':
  app.run(main)
