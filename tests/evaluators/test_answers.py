"""Answers by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import evaluators


def question(text, answer, kind):
  return {'question': text, 'answers': [answer], 'type': kind}


ROWS = (
  {
    'questions': (
      question('hue?', 'red', 'color'),
      question('many?', 'two', 'count'),
    )
  },
  {'questions': (question('hue?', 'blue', 'color'),)},
  {'questions': (question('hue?', 'red', 'color'),)},
)


@pytest.fixture
def evaluate(make_source, preprocessor):
  def run(answer, **settings):
    evaluator = evaluators.Answers(
      answer, make_source(ROWS), preprocessor, batch_size=3, **settings
    )
    assert evaluator.render() is None
    return evaluator, dict(evaluator.run(jnp.asarray(0)))

  return run


EXPECTED = {
  'vqa/accuracy': 2 / 4,
  'vqa/accuracy/color': 2 / 3,
  'vqa/accuracy/count': 0,
  # Red is commonest for colors: right twice of three, and two for counts.
  'vqa/majority_accuracy': 3 / 4,
}


def test_picked_answers_by_hand(evaluate):
  # Always 'red', the answer number 0.
  pick = lambda params, batch: params * batch['question'][:, 0]
  evaluator, values = evaluate(pick)
  assert values == pytest.approx(EXPECTED)
  assert min(evaluator.render().size) > 0


def test_written_answers_by_hand(evaluate, preprocessor):
  ids = preprocessor.tokenizer.encode('red', 6)[0]
  write = lambda params, batch: jnp.asarray(
    np.tile(ids, (batch['question'].shape[0], 1))
  )
  _, values = evaluate(write)
  assert values == pytest.approx(EXPECTED)


def test_a_blind_twin_stands_beside(evaluate):
  pick = lambda params, batch: params * batch['question'][:, 0]
  blind = {
    'vqa/accuracy': 0.4,
    'vqa/accuracy/color': 0.3,
    'vqa/majority_accuracy': 0.2,
  }
  _, values = evaluate(pick, blind_metrics=blind)
  assert values == pytest.approx(
    {
      **EXPECTED,
      'vqa/blind_accuracy': 0.4,
      'vqa/blind_accuracy/color': 0.3,
    }
  )


def test_only_the_first_records(evaluate, number_of):
  # The first record has two questions, an image shows its number.
  pick = lambda params, batch: number_of(batch['image'])
  _, values = evaluate(pick, num_examples=2, name='q')
  assert values['q/accuracy'] == pytest.approx(2 / 3)
  assert values['q/accuracy/color'] == 1
