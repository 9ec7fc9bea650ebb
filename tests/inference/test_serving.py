"""OpenAI's chat endpoint: each answer as the model gives it alone."""

import asyncio
import json
import re
from pathlib import Path

import httpx
import jax
import pytest
from starlette import testclient

from mmjax import pretrained
from mmjax.cli import main, serve_answers, serve_app
from mmjax.errors import ConfigError
from mmjax.inference import batching, chat_models, opened
from tests.inference import chat_llava

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'
URL = '/v1/chat/completions'
ADDRESS = 'http://127.0.0.1:8000'
NEW = 7
# Of a request without a server.
SCOPE = {
  'type': 'http',
  'asgi': {'spec_version': '2.3'},
  'method': 'POST',
  'path': URL,
  'query_string': b'',
  'headers': [(b'content-type', b'application/json'), (b'host', b'localhost')],
}


# Conversations, and how they are answered.
ASKED = [
  (chat_llava.say('a small red'), {}),
  (chat_llava.say('a red', 'red'), {}),
  (chat_llava.say('cat'), {'temperature': 1.5, 'seed': 5}),
  (chat_llava.say('a small cat', 'blue'), {'temperature': 1.5, 'seed': 6}),
  (chat_llava.say('red'), {'temperature': 1.5, 'seed': 7}),
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return chat_llava.make_folder(tmp_path_factory.mktemp('models') / 'llava')


@pytest.fixture(scope='module')
def served(folder):
  model = chat_models.open_chat_model(opened.open_model(str(folder)))
  engine = batching.Engine(model, batch_size=3, max_waiting=40)
  yield serve_answers.Served('tiny', model, engine)
  engine.close()


@pytest.fixture(scope='module')
def client(served):
  # Without its end, which closes the engine.
  return testclient.TestClient(serve_app.make(served), base_url=ADDRESS)


@pytest.fixture(scope='module')
def alone(folder):
  """The text of each conversation that the model writes by itself."""
  model = pretrained.load(folder)
  return [
    model.chat(messages, max_new_tokens=NEW, **settings)
    for messages, settings in ASKED
  ]


def _body(messages, **settings):
  return {
    'model': 'tiny', 'messages': messages, 'max_tokens': NEW, **settings
  }  # fmt: skip


def _post_together(app, bodies):
  """The responses to requests that come at once."""

  async def post():
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(
      transport=transport, base_url=ADDRESS
    ) as client:
      return await asyncio.gather(*(client.post(URL, json=b) for b in bodies))

  return asyncio.run(post())


def _read_events(response):
  *events, end, rest = response.text.split('\n\n')
  assert end == 'data: [DONE]' and not rest
  assert all(event.startswith('data: ') for event in events)
  return [json.loads(event.removeprefix('data: ')) for event in events]


def _get_text(response):
  assert response.status_code == 200, response.text
  return response.json()['choices'][0]['message']['content']


def test_requests_at_once_are_answered_as_each_is_alone(served, alone):
  """Twenty-one in three rows, one of them broken; and no program more."""
  bodies = [_body(messages, **settings) for messages, settings in ASKED]
  broken = _body(chat_llava.say('a red'), temperature='hot')
  app = serve_app.make(served)
  compiled = []

  def count(event, seconds, fun_name='', **_):
    del seconds
    if event == '/jax/core/compile/backend_compile_duration':
      compiled.append(fun_name)

  responses = _post_together(app, [*bodies, broken, *bodies * 3])
  jax.monitoring.register_event_duration_secs_listener(count)
  try:
    for _ in range(5):  # Which rows and sizes there are depends on the time.
      compiled.clear()
      again = _post_together(app, bodies * 3)
      if not compiled:
        break
  finally:
    jax.monitoring.unregister_event_duration_listener(count)
  refused = responses.pop(len(bodies))
  assert refused.status_code == 400
  for found in (responses, again):
    assert [_get_text(one).strip() for one in found] == [
      text.strip() for text in alone
    ] * (len(found) // len(alone))
  assert len(set(alone)) > 3
  assert not compiled


def test_a_stream_is_the_answer_in_pieces(client, alone):
  messages, settings = ASKED[3]
  options = {'stream': True, 'stream_options': {'include_usage': True}}
  response = client.post(URL, json=_body(messages, **settings, **options))
  assert response.headers['content-type'].startswith('text/event-stream')
  first, *pieces, end, usage = _read_events(response)
  assert first['choices'][0]['delta'] == {'role': 'assistant', 'content': ''}
  deltas = [piece['choices'][0]['delta']['content'] for piece in pieces]
  assert ''.join(deltas).strip() == alone[3].strip() and len(deltas) > 2
  assert end['choices'][0]['finish_reason'] == 'length'
  assert usage['choices'] == []
  assert usage['usage']['completion_tokens'] == NEW


def test_several_answers_and_stop_strings(client):
  messages, settings = ASKED[2]
  body = _body(messages, **settings, n=4, logprobs=True, top_logprobs=2)
  found = client.post(URL, json=body).json()
  texts = [choice['message']['content'] for choice in found['choices']]
  assert len(set(texts)) > 1
  assert found['usage']['completion_tokens'] <= 4 * NEW
  for one in found['choices'][0]['logprobs']['content']:
    assert one['logprob'] < 0 and len(one['top_logprobs']) == 2
    assert bytes(one['bytes']).decode() == one['token']
  stop = texts[0].strip()[2:5]
  stopped = client.post(URL, json=_body(messages, **settings, stop=[stop]))
  choice = stopped.json()['choices'][0]
  assert choice['finish_reason'] == 'stop'
  assert choice['message']['content'] == texts[0][: texts[0].index(stop)]


@pytest.mark.parametrize('stream', [False, True])
def test_an_answer_is_not_written_on_for_a_client_that_is_gone(
  served, monkeypatch, stream
):
  asked, sent = [], []
  submit = served.engine.submit
  monkeypatch.setattr(
    served.engine,
    'submit',
    lambda *answers: (asked.extend(answers), submit(*answers)),
  )
  body = _body(chat_llava.say('cat'), max_tokens=200, stream=stream)
  messages = [{'type': 'http.request', 'body': json.dumps(body).encode()}]

  async def receive():
    # Gone as soon as it has asked.
    return messages.pop() if messages else {'type': 'http.disconnect'}

  async def send(message):
    sent.append(message)

  asyncio.run(serve_app.make(served)(SCOPE, receive, send))
  (answer,) = asked
  assert answer.cancelled and answer.num_tokens < 200
  assert b'[DONE]' not in b''.join(one.get('body', b'') for one in sent)


def test_a_client_that_leaves_while_sending_is_one_line(caplog):
  part = {'type': 'http.request', 'body': b'{"model', 'more_body': True}
  messages = [{'type': 'http.disconnect'}, part]

  async def receive():
    return messages.pop()

  async def send(message):
    del message

  # An error would be raised again, for its traceback.
  asyncio.run(serve_app.make(None)(SCOPE, receive, send))
  (line,) = caplog.messages
  assert line == 'a client left while sending its request'


def test_a_server_that_ends_does_not_wait_for_a_client_that_sends():
  app, sent = serve_app.make(None), []

  async def receive():
    # As `handle_exit` does, while the client is silent.
    (task,) = app.state.readers
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.sleep(60)

  async def send(message):
    sent.append(message)

  asyncio.run(app(SCOPE, receive, send))
  assert sent[0]['status'] == 503 and b'shutting down' in sent[1]['body']


@pytest.mark.parametrize(
  ('changed', 'status', 'param', 'message'),
  [
    ({'model': 'x'}, 404, 'model', "this server has 'tiny'"),
    ({'messages': []}, 400, 'messages', 'not a list of one message'),
    ({'messages': [{'role': 'user'}]}, 400, 'messages[0].content', 'neither'),
    ({'temperature': 3}, 400, 'temperature', 'a number from 0 to 2'),
    ({'n': True}, 400, 'n', 'a whole number from 1'),
    ({'stop': ['']}, 400, 'stop', 'none of them empty'),
    ({'tools': [{}]}, 400, 'tools', 'does not do'),
    ({'best_of': 2}, 400, 'best_of', "does not know 'best_of'"),
    ({'top_logprobs': 2}, 400, 'top_logprobs', 'without logprobs'),
    ({'max_tokens': 256}, 400, 'max_tokens', 'use 2[0-9]+ or fewer'),
    (
      {'messages': chat_llava.say('cat ' * 300)},
      400,
      'messages',
      '256 at most',
    ),
    (
      {'messages': chat_llava.say('<image>')},
      400,
      'messages',
      'the placeholders',
    ),
    (
      {'messages': chat_llava.say('a' * 10**6)},
      400,
      'messages',
      '1000000 characters',
    ),
    ({'n': 60}, 400, 'n', 'n is 60, but this server writes at most'),
  ],
)
def test_what_is_refused_is_named(client, changed, status, param, message):
  response = client.post(URL, json={**_body(chat_llava.say('cat')), **changed})
  assert response.status_code == status
  error = response.json()['error']
  assert error['param'] == param and error['type'] == 'invalid_request_error'
  assert re.search(message, error['message'])


@pytest.mark.parametrize(
  ('url', 'message'),
  [
    *[(f'{way}/etc/passwd', 'send a data: URL') for way in ('', 'file://')],
    ('http://127.0.0.1:1/a.png', 'with --allow_http'),
    ('data:image/png;base64,eA==', 'is not an image'),
    ('data:image/png,../a.png', 'is not the data: URL of an image'),
    ('data:video/mp4;base64,eA==', 'llava reads no video files'),
  ],
)
def test_no_file_of_the_server_and_no_address_is_read(client, url, message):
  kind = 'video_url' if 'mp4' in url else 'image_url'
  part = {'type': kind, kind: {'url': url}}
  response = client.post(URL, json=_body([{'role': 'user', 'content': [part]}]))
  assert response.status_code == 400
  assert message in response.json()['error']['message']


def test_other_addresses(client):
  (model,) = client.get('/v1/models').json()['data']
  assert model['id'] == 'tiny' and model['max_model_len'] == 256
  assert client.get('/v1/models/tiny').json() == model
  assert client.get('/v1/models/x').json()['error']['code'] == 'model_not_found'
  assert client.get('/health').json() == {'status': 'ok'}
  assert client.get(URL).json()['error']['message'] == 'Method Not Allowed'
  # A form of another site, another site's name for this machine, no JSON.
  assert client.post(URL, data={'model': 'x'}).status_code == 415
  json_type = {'content-type': 'application/json'}
  assert client.post(URL, content='{', headers=json_type).status_code == 400
  other = client.get('/v1/models', headers={'host': 'example.com'})
  assert other.status_code == 400


def test_too_many_and_late_requests_are_refused(served, monkeypatch):
  engine = batching.Engine(served.model, batch_size=1, max_waiting=1)
  app = serve_app.make(serve_answers.Served('tiny', served.model, engine))
  with testclient.TestClient(app, base_url=ADDRESS) as client:
    with monkeypatch.context() as patch:
      patch.setattr(engine, '_waiting', [None, None])
      response = client.post(URL, json=_body(chat_llava.say('cat')))
    assert response.status_code == 429
    assert 'answers are waiting' in response.json()['error']['message']
  # The application's end is the engine's.
  with testclient.TestClient(app, base_url=ADDRESS) as client:
    response = client.post(URL, json=_body(chat_llava.say('cat')))
    assert response.status_code == 503
    assert response.json()['error']['type'] == 'server_error'


def test_models_that_do_not_chat_are_refused(folder, capsys):
  assert main.main(['serve', str(GOLDEN / 'vit'), '--port=0']) == 2
  assert 'does not chat; give a run' in capsys.readouterr().err
  assert main.main(['serve', str(GOLDEN / 'gpt2'), '--port=0']) == 2
  assert 'has no chat template' in capsys.readouterr().err
  with pytest.raises(ConfigError, match='max_length=999 is more than the 256'):
    chat_models.open_chat_model(opened.open_model(str(folder)), 999)
