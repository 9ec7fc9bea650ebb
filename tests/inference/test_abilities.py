"""What `mmjax predict` does with published models, and refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from mmjax import pretrained
from mmjax.cli import main
from mmjax.data import audio
from mmjax.errors import ConfigError
from tests.data import chat_forms

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('inputs')
  for name in ('a', 'b'):
    PIL.Image.new('RGB', (8, 8), 'red').save(folder / f'{name}.png')
  (folder / 'a.wav').write_bytes(
    audio.encode_wave(np.zeros(1600, np.float32), 16_000)
  )
  return folder


@pytest.mark.parametrize(
  ('command', 'first', 'number'),
  [
    ('clip --image=a.png --text=red --text=cat', 'cosine    prob  text', 3),
    ('blip_captions --image=. --max_new_tokens=2', 'a.png:', 4),
    ('whisper --sound=a.wav --max_new_tokens=2', '', 1),
    ('vit --image=a.png', '  prob  class', 4),
    ('gpt2 --text=cat --text=red --max_new_tokens=2', '', 2),
  ],
)
def test_a_family_does_what_it_can(
  command, first, number, folder, monkeypatch, capsys
):
  monkeypatch.chdir(folder)
  name, *flags = command.split()
  assert main.main(['predict', str(GOLDEN / name), *flags]) == 0
  lines = capsys.readouterr().out.split('\n')[:-1]
  assert lines[0].startswith(first)
  assert len(lines) == number


@pytest.mark.parametrize(
  ('command', 'message'),
  [
    (
      'clip --image=a.png',
      "it can rank texts by an image; use --text='a photo",
    ),
    ('clip --text=cat', 'the task needs an input; add --image=FILE'),
    ('clip --sound=a.wav --text=cat', 'sound=a.wav: the model reads image'),
    ('vit --image=a.png --output=o.png', 'the task draws nothing; masked'),
    ('vit --image=a.png --output=o.wav', 'the task makes no sound'),
    ('encodec --sound=a.wav --output=o.png', 'use --output=FILE.wav'),
    (
      'encodec --sound=a.wav --sound=a.wav --output=o.wav',
      'holds one sound, but there are 2',
    ),
    ('bert --text=cat', 'it can encode, with `mmjax embed`'),
    ('whisper --sound=a.wav --beam_size=2', 'speech is transcribed greedily'),
    ('gpt2 --question=cat', "the model's folder has no chat template"),
  ],
)
def test_refused(command, message, folder, monkeypatch, capsys):
  monkeypatch.chdir(folder)
  name, *flags = command.split()
  assert main.main(['predict', str(GOLDEN / name), *flags]) == 2
  assert message in capsys.readouterr().err


def test_a_sound_is_decoded_to_a_file(folder, tmp_path, capsys):
  sound, output = str(folder / 'a.wav'), tmp_path / 'o.wav'
  flags = [f'--sound={sound}', f'--output={output}']
  assert main.main(['predict', str(GOLDEN / 'encodec'), *flags]) == 0
  first, last = capsys.readouterr().out.splitlines()
  assert first.startswith('reconstruction at 1.2 kbit/s, of 3 codebooks: ')
  assert last == str(output)
  (want,) = pretrained.load(GOLDEN / 'encodec').reconstruct(sound, 1.2)
  samples, rate = audio.decode(output.read_bytes())
  assert rate == 600
  np.testing.assert_allclose(samples, np.clip(want, -1, 1), rtol=0, atol=1e-4)


def test_a_question_is_written_by_the_template_of_the_folder(
  folder, tmp_path, monkeypatch, capsys
):
  """The same answer as to the text that the template writes."""
  monkeypatch.chdir(folder)
  shutil.copytree(GOLDEN / 'llava', tmp_path, dirs_exist_ok=True)
  (tmp_path / 'chat_template.json').write_text(
    json.dumps({'chat_template': chat_forms.unmark(chat_forms.LLAVA)})
  )
  flags = ['--image=a.png', '--question=red', '--max_new_tokens=3']
  assert main.main(['predict', str(tmp_path), *flags]) == 0
  model = pretrained.load(tmp_path)
  image = PIL.Image.open('a.png')
  (want,) = model.generate(
    [image], ['USER: <image>\nred ASSISTANT:'], max_new_tokens=3
  )
  assert capsys.readouterr().out == f'{want}\n'
  other = [{'role': 'user', 'content': [{'type': 'image', 'image': image}]}]
  with pytest.raises(ConfigError, match=r'turn 1 \(tool\): the chat template'):
    model.chat([{'role': 'tool', 'content': other[0]['content']}])
