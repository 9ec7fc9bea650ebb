"""`mmjax demo`: the page's addresses, with published models."""

import base64
import io
import re
import socket
import types
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from starlette import testclient

from mmjax import tasks
from mmjax.cli import demo as command
from mmjax.cli import demo_app, main
from mmjax.data import contact_sheet
from mmjax.errors import ConfigError
from mmjax.inference import abilities, demo, opened

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'
CLIP, BLIP, GPT = (GOLDEN / name for name in ('clip', 'blip_answers', 'gpt2'))


def _file(color, name='a.png'):
  stream = io.BytesIO()
  PIL.Image.new('RGB', (24, 18), color).save(stream, 'PNG')
  content = base64.b64encode(stream.getvalue()).decode()
  return {'name': name, 'content': content}


@pytest.fixture(scope='module')
def models():
  return [opened.open_model(str(path)) for path in (CLIP, BLIP, GPT)]


@pytest.fixture(scope='module')
def client(models):
  app = demo_app.make(demo.Demo(models))
  return testclient.TestClient(app, base_url='http://127.0.0.1:7860')


def _ask(client, model, task, inputs, texts):
  asked = {'model': str(model), 'task': task, 'inputs': inputs, 'texts': texts}
  return client.post('/answer', json=asked)


def test_the_models_say_what_they_can_do(client):
  clip, blip, gpt = client.get('/models').json()
  assert clip['searches'] and not blip['searches'] and not gpt['searches']
  image = [{'name': 'image', 'kind': 'image'}]
  assert [form['text'] for form in clip['forms']] == ['text']
  assert blip['forms'] == [
    {
      'task': 'answer',
      'ability': 'answer a question',
      'text': 'question',
      'inputs': image,
    }
  ]
  assert gpt['forms'][0]['inputs'] == []


@pytest.mark.parametrize(
  ('inputs', 'kinds', 'expected'),
  [
    ((), {}, []),
    ((), {'image': 'image', 'text': 'text'}, [('image', 'image')]),
    (
      ('voice', 'name', 'age'),
      {'voice': 'sound', 'name': 'text', 'age': 'row'},
      [('voice', 'sound'), ('age', 'row')],
    ),
  ],
)
def test_a_run_takes_the_inputs_that_its_model_reads(inputs, kinds, expected):
  preprocessor = {
    name: types.SimpleNamespace(encoded_as=kind) for name, kind in kinds.items()
  }
  run = types.SimpleNamespace(inputs=inputs, preprocessor=preprocessor)
  # The flag's texts are the feature `name`.
  flag = tasks.PredictUse('text', lambda *_: [], feature='name')
  task = types.SimpleNamespace(predict_use=flag)
  found = demo._list_inputs(run, task, is_run=True)
  assert [(entry['name'], entry['kind']) for entry in found] == expected
  draws = tasks.Draw.predict_use
  task = types.SimpleNamespace(predict_use=draws)
  assert demo._list_inputs(run, task, is_run=True) == []


@pytest.mark.slow
def test_answers_are_those_of_predict(client, tmp_path, capsys):
  texts = ['a red cat', 'a dog', '  ']
  shown = _ask(client, CLIP, 'similarity', {'image': _file('red')}, texts)
  PIL.Image.new('RGB', (24, 18), 'red').save(tmp_path / 'a.png')
  flags = [f'--image={tmp_path / "a.png"}', *(f'--text={t}' for t in texts[:2])]
  assert main.main(['predict', str(CLIP), *flags]) == 0
  printed = capsys.readouterr().out.splitlines()
  assert shown.json()['lines'] == printed and len(printed) == 3


@pytest.mark.slow
def test_search_orders_images_and_keeps_their_vectors(client, models):
  colors = ['red', 'green', 'blue']
  images = [_file(color) for color in colors]
  asked = {'model': str(CLIP), 'query': 'a cat', 'images': images}
  found = client.post('/search', json=asked).json()['found']
  model = models[0].model
  arrays = [np.array(PIL.Image.new('RGB', (24, 18), c)) for c in colors]
  cosines = model.encode_image(arrays) @ model.encode_text(['a cat']).T
  expected = sorted(enumerate(np.ravel(cosines)), key=lambda pair: -pair[1])
  assert [i for i, _ in found] == [i for i, _ in expected]
  np.testing.assert_allclose(
    [cosine for _, cosine in found], [c for _, c in expected], atol=1e-5
  )
  # The same images in another order have the same cosines.
  asked['images'] = images[::-1]
  again = client.post('/search', json=asked).json()['found']
  assert {(2 - i, cosine) for i, cosine in again} == {(*p,) for p in found}


def test_drawings_are_shown_with_their_lines(models, monkeypatch):
  image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
  flag = tasks.PredictUse(
    'text',
    lambda *_: ['drawn'],
    needs_inputs=False,
    draw=lambda run, inputs, texts: [
      (image, [texts[0], ('right', contact_sheet.RIGHT)]),
      (None, [texts[1]]),
    ],
  )
  ability = abilities.Ability('draw', flag, needs='')
  monkeypatch.setattr(abilities, '_list', lambda model: [('draw', ability)])
  app = demo_app.make(demo.Demo(models[:1]))
  page = testclient.TestClient(app, base_url='http://127.0.0.1:7860')
  answer = _ask(page, CLIP, 'draw', {}, ['a cat', 'a dog']).json()
  first, second = answer['drawings']
  assert answer['lines'] == ['drawn']
  assert first['lines'] == ['a cat', 'right'] and second['lines'] == ['a dog']
  assert second['image'] is None
  content = first['image'].removeprefix('data:image/png;base64,')
  shown = PIL.Image.open(io.BytesIO(base64.b64decode(content)))
  np.testing.assert_array_equal(shown, image)


@pytest.mark.parametrize(
  ('asked', 'message'),
  [
    ((CLIP, 'similarity', {}, ['a']), 'add image first'),
    ((CLIP, 'similarity', {'image': _file('red')}, [' ']), 'write a text'),
    ((BLIP, 'answer', {'image': _file('red')}, []), 'write a question'),
    ((CLIP, 'similarty', {}, []), "did you mean 'similarity'"),
    (('x', 'similarity', {}, []), "the model 'x'"),
    ((GPT, 'continue', {'image': _file('red')}, ['a']), 'has no input image'),
  ],
)
def test_what_is_missing_is_named(client, asked, message):
  response = _ask(client, *asked)
  assert response.status_code == 422
  assert message in response.json()['error']


def test_an_unreadable_file_is_named_as_it_was_dropped(client):
  broken = {'name': 'holiday.png', 'content': base64.b64encode(b'x').decode()}
  response = _ask(client, CLIP, 'similarity', {'image': broken}, ['a'])
  found = {'model': str(CLIP), 'query': 'a', 'images': [broken]}
  for answer in (response, client.post('/search', json=found)):
    assert answer.status_code == 422
    assert answer.json()['error'].startswith('holiday.png')
    assert '/tmp' not in answer.json()['error']


def test_malformed_and_foreign_requests_are_refused(client):
  assert client.post('/answer', json={'model': 1}).status_code == 400
  assert client.post('/search', json=[]).status_code == 400
  # A form of another site, and another site's name for this machine.
  assert client.post('/answer', data={'model': 'x'}).status_code == 415
  other = client.get('/models', headers={'host': 'example.com'})
  assert other.status_code == 400


def test_the_page_loads_nothing_from_elsewhere(client):
  page = client.get('/')
  assert "default-src 'none'" in page.headers['content-security-policy']
  loaded = re.findall(r'(?:src|href)="([^"]*)"', page.text)
  assert loaded == ['data:,', 'page.css', 'page.js']
  for name in loaded[1:]:
    assert client.get(f'/{name}').status_code == 200
    assert not re.search('https?://|@import', client.get(f'/{name}').text)


def test_a_model_that_is_named_twice_or_can_do_nothing_is_refused(models):
  with pytest.raises(ConfigError, match='give each model once'):
    demo.Demo([models[0], models[0]])
  bert = opened.open_model(str(GOLDEN / 'bert'))
  with pytest.raises(ConfigError, match='it can encode, with `mmjax embed`'):
    demo.Demo([bert])


def test_it_listens_to_this_machine_alone_and_names_a_port_in_use(capsys):
  with command._listen(0) as listener:
    host, port = listener.getsockname()
    assert host == '127.0.0.1'
    listener.listen()
    assert main.main(['demo', str(CLIP), f'--port={port}']) == 2
    assert f'--port={port}' in capsys.readouterr().err
  with pytest.raises(SystemExit), socket.socket():
    main.main(['demo', str(CLIP), '--port=70000'])
