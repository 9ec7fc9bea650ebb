"""`mmjax serve` in a process of its own, as the `openai` client uses it."""

import asyncio
import os
import signal
import subprocess
import sys

import openai
import pytest

from tests.inference import chat_llava

SECONDS = 300


@pytest.fixture(scope='module')
def address(tmp_path_factory):
  """The server's address, until SIGTERM, which ends it as it should."""
  folder = chat_llava.make_folder(tmp_path_factory.mktemp('models') / 'llava')
  command = ['mmjax.cli.main', 'serve', str(folder), '--port=0', '--name=tiny']
  process = subprocess.Popen(
    [sys.executable, '-m', *command],
    stdout=subprocess.PIPE,
    text=True,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )
  try:
    assert str(folder) in process.stdout.readline()
    yield process.stdout.readline().split()[0]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
  finally:
    process.kill()


def test_a_stream_about_an_image_is_the_answer(address):
  client = openai.OpenAI(base_url=address, api_key='none', timeout=SECONDS)
  assert [model.id for model in client.models.list()] == ['tiny']
  asked = {
    'model': 'tiny',
    'messages': chat_llava.say('a small cat', 'red'),
    'max_tokens': 9,
    'temperature': 1.5,
    'seed': 3,
  }
  whole = client.chat.completions.create(**asked, logprobs=True)
  (choice,) = whole.choices
  assert choice.message.content and choice.logprobs.content
  assert choice.finish_reason in ('stop', 'length')
  chunks = [*client.chat.completions.create(**asked, stream=True)]
  pieces = [chunk.choices[0].delta.content or '' for chunk in chunks]
  assert ''.join(pieces) == choice.message.content
  assert chunks[-1].choices[0].finish_reason == choice.finish_reason


def test_fifty_at_once_one_of_them_broken(address):
  """Each gets what it gets alone, and the broken one an error."""
  client = openai.AsyncOpenAI(
    base_url=address, api_key='none', timeout=SECONDS, max_retries=0
  )
  asked = [
    {
      'model': 'tiny',
      'messages': chat_llava.say('a red', *['blue'] * (seed % 2)),
      'max_tokens': 5,
      'temperature': 1.5,
      'seed': seed,
    }
    for seed in range(50)
  ]
  broken = {**asked[20], 'messages': chat_llava.say('<image>')}

  async def ask(request):
    try:
      return await client.chat.completions.create(**request)
    except openai.APIError as error:
      return error

  async def ask_all():
    alone = [await ask(request) for request in asked]
    together = await asyncio.gather(
      *(ask(request) for request in [*asked[:20], broken, *asked[21:]])
    )
    return alone, together

  alone, together = asyncio.run(ask_all())
  refused = together.pop(20)
  alone.pop(20)
  assert isinstance(refused, openai.BadRequestError)
  assert refused.param == 'messages' and 'placeholders' in refused.message
  texts = [
    [one.choices[0].message.content for one in some]
    for some in (alone, together)
  ]
  assert texts[0] == texts[1] and len(set(texts[0])) > 10


def test_a_client_that_leaves_and_an_end_while_a_stream_runs(address):
  client = openai.OpenAI(base_url=address, api_key='none', timeout=SECONDS)
  asked = {'model': 'tiny', 'messages': chat_llava.say('cat')}
  with client.chat.completions.create(**asked, stream=True) as stream:
    next(iter(stream))
  # Another is answered all the same.
  found = client.chat.completions.create(**asked, max_tokens=2)
  assert found.usage.completion_tokens <= 2
