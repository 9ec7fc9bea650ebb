"""Answers that are shown while they are written."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmjax import pretrained
from mmjax.cli import main
from mmjax.decoders import streaming
from mmjax.errors import ConfigError

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'
TEMPLATE = (
  '{{ bos_token }}{% for m in messages %}{{ m.content + " " }}{% endfor %}'
)


def run_stream(pieces, stop=()):
  """What is written, after each token, of tokens that spell bytes."""
  shown, written = [], []
  decode = lambda ids: b''.join(pieces[i] for i in ids).decode(errors='replace')
  stream = streaming.Stream(decode, written.append, stop)
  ends = []
  for token in range(len(pieces)):
    ends.append(bool(stream(np.array([token]))[0]))
    shown.append(''.join(written))
  return shown, ends, stream.finish()


@pytest.mark.parametrize(
  ('pieces', 'stop', 'shown', 'whole', 'ends'),
  [
    ([b'a', b' b'], (), ['a', 'a b'], 'a b', False),
    # A character of two tokens, and half a character at the end.
    ([b'\xc3', b'\xa9', b'\xc3'], (), ['', 'é', 'é'], 'é\ufffd', False),
    ([b'a', b'x', b'yb'], ('xy',), ['a', 'a', 'a'], 'a', True),
    ([b'a', b'x', b'z'], ('xy', 'q'), ['a', 'a', 'axz'], 'axz', False),
    ([b'a', b'x'], ('xy',), ['a', 'a'], 'ax', False),
  ],
)
def test_text_is_shown_once_it_is_certain(pieces, stop, shown, whole, ends):
  got, stops, text = run_stream(pieces, stop)
  assert got == shown and text == whole
  assert stops == [False] * (len(pieces) - 1) + [ends]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('chats')
  shutil.copytree(GOLDEN / 'llama', folder, dirs_exist_ok=True)
  (folder / 'chat_template.jinja').write_text(TEMPLATE)
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'bos_token': '<s>', 'eos_token': '</s>'})
  )
  return folder


def test_lines_are_answered_in_their_conversation(folder, monkeypatch, capsys):
  """As `chat` answers them; /new forgets, and a stop string ends an answer."""
  flags = ['--max_new_tokens=5', '--temperature=0']
  monkeypatch.setattr('sys.stdin', io.StringIO('cat\na red\n/new\na red\n'))
  assert main.main(['chat', str(folder), *flags]) == 0
  answers = capsys.readouterr().out.splitlines()
  model = pretrained.load(folder)
  say = lambda role, text: {'role': role, 'content': text}
  settings = {'max_new_tokens': 5, 'temperature': 0.0}
  ask = lambda *messages: model.chat(messages, **settings)
  first, last = ask(say('user', 'cat')), ask(say('user', 'a red'))
  second = ask(
    say('user', 'cat'), say('assistant', first.strip()), say('user', 'a red')
  )
  assert [a.strip() for a in answers] == [
    answer.strip() for answer in (first, second, last)
  ]
  stop = last.strip()[2:5]
  monkeypatch.setattr('sys.stdin', io.StringIO('a red\n'))
  assert main.main(['chat', str(folder), *flags, f'--stop={stop}']) == 0
  cut = last.lstrip()[: last.lstrip().index(stop)]
  assert capsys.readouterr().out.strip() == cut.strip()


def test_models_that_do_not_chat_are_refused(monkeypatch, capsys):
  monkeypatch.setattr('sys.stdin', io.StringIO('cat\n'))
  assert main.main(['chat', str(GOLDEN / 'vit')]) == 2
  assert 'does not chat; give a run' in capsys.readouterr().err
  assert main.main(['chat', str(GOLDEN / 'gpt2')]) == 2
  assert 'has no chat template' in capsys.readouterr().err
  with pytest.raises(ConfigError, match="a stop string is ''"):
    streaming.Stream(str, print, ('',))
