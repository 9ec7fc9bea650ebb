"""Answers that are written together, of requests at any time."""

import threading

import jax
import numpy as np
import pytest

from mmjax.inference import batching, chat_models, opened
from tests.inference import chat_llava

NEW = 7


@pytest.fixture(scope='module')
def engine(tmp_path_factory):
  folder = chat_llava.make_folder(tmp_path_factory.mktemp('models') / 'llava')
  model = chat_models.open_chat_model(opened.open_model(str(folder)))
  engine = batching.Engine(model, batch_size=3, max_waiting=40)
  yield engine
  engine.close()


def _ask(engine, prompt, number, **settings):
  """An answer that is asked for; an event when it has begun, and its events."""
  begun, ended, events = threading.Event(), threading.Event(), []

  def notify(*event):
    events.append(event)
    begun.set()
    if event[-1] is not None:
      ended.set()

  answer = batching.Answer(
    prompt,
    batching.make_settings(
      engine.model, seed=5, number=0, max_new_tokens=number, **settings
    ),
    notify,
    num_likeliest=2,
  )
  return answer, begun, ended, events


def test_log_probabilities_are_those_of_one_pass_over_all(engine):
  model = engine.model
  prompt = model.prepare(chat_llava.say('a small red'))
  answer, _, ended, events = _ask(engine, prompt, NEW)
  engine.submit(answer)
  assert ended.wait(60)
  tokens = [token for _, new, _ in events for token in new]
  ids = [token.id for token in tokens]
  before = prompt.batch['text'][prompt.batch['text_mask']].tolist()
  logits = model.model.jit_method('__call__', train=False)(
    model.params, {'text': np.asarray([[*before, *ids]], np.int32)}
  )['text_logits'][0]
  wanted = np.asarray(jax.nn.log_softmax(logits[len(before) - 1 : -1]))
  # A placeholder has another vector among the words of a prompt.
  assert len(ids) > 2 and not set(ids) & {*model.module.placeholders}
  for token, row in zip(tokens, wanted, strict=True):
    np.testing.assert_allclose(token.log_prob, row[token.id], rtol=1e-4)
    likeliest = dict(token.likeliest)
    assert set(likeliest) == set(np.argsort(row)[-2:].tolist())
    np.testing.assert_allclose(max(likeliest.values()), row.max(), rtol=1e-4)


def test_a_client_that_leaves_frees_its_row(engine):
  """Three long answers fill the rows; without them, the next one begins."""
  prompt = engine.model.prepare(chat_llava.say('cat'))
  long = [_ask(engine, prompt, 200) for _ in range(3)]
  engine.submit(*(answer for answer, *_ in long))
  for _, begun, *_ in long:
    assert begun.wait(60)
  for answer, *_ in long:
    answer.cancelled = True
  answer, _, ended, events = _ask(engine, prompt, 2)
  engine.submit(answer)
  assert ended.wait(60) and events[-1][-1] == 'length'
  assert not any(one.is_set() for _, _, one, _ in long)


def test_an_answer_that_cannot_be_inserted_ends_with_the_error(
  engine, monkeypatch
):
  """And the next one is written."""
  prompt = engine.model.prepare(chat_llava.say('cat'))
  failing, _, ended, events = _ask(engine, prompt, 2)
  with monkeypatch.context() as patch:
    patch.setattr(engine, '_arrange', lambda *_, **__: 1 / 0)
    patch.setattr(batching.continuous_batching, 'make_empty', lambda *_: 1 / 0)
    engine.submit(failing)
    assert ended.wait(60)
  assert isinstance(events[-1][-1], ZeroDivisionError)
  answer, _, ended, events = _ask(engine, prompt, 2)
  engine.submit(answer)
  assert ended.wait(60) and events[-1][-1] == 'length'
