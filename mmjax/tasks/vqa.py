"""The tasks of answering questions about images."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from mmjax import evaluators, objectives
from mmjax.data.features import Feature
from mmjax.models import predict
from mmjax.tasks import base
from mmjax.types import Array, Batch


def answer_logits(run: base.TrainedModel, batch: Batch) -> Array:
  """Logits [B, C] over training's answers, of `prepare(image=, questions=)`."""
  return run.predict(predict.make_answer_logits, batch)


def classify_answer(
  run: base.TrainedModel,
  image: Any,
  questions: str | Sequence[str],
  *,
  beam_size: int = 1,
) -> list[str]:
  """The likeliest of training's answers to each image's question."""
  del beam_size
  logits = answer_logits(run, run.prepare(image=image, questions=questions))
  answers = run.preprocessor['questions'].answers
  return [answers[i] for i in np.argmax(logits, axis=-1)]


def generate_answer(
  run: base.TrainedModel,
  image: Any,
  questions: str | Sequence[str],
  *,
  beam_size: int = 1,
) -> list[str]:
  """An answer to each image's question; greedy, or the best of a beam."""
  ids = run.predict(
    predict.make_generate,
    run.prepare(image=image, questions=questions),
    text_kind='answer',
    max_new_tokens=run.preprocessor['questions'].max_new_tokens,
    beam_size=beam_size,
  )
  return run.decode(ids)


def _likeliest(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  """Lines of the three likeliest answers with their probabilities."""
  del beam_size
  batch = run.prepare(image=base.get_image(inputs), questions=list(texts))
  logits = answer_logits(run, batch)[0]
  answers = run.preprocessor['questions'].answers
  probabilities = np.exp(logits - np.logaddexp.reduce(logits))
  return [
    '  prob  answer',
    *(
      f'{probabilities[i]:6.1%}  {answers[i]}'
      for i in np.argsort(-probabilities)[:3]
    ),
  ]


def _generated(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  return generate_answer(
    run, base.get_image(inputs), list(texts), beam_size=beam_size
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Vqa(base.Task):
  """What both ways to answer have in common."""

  ability: ClassVar[str] = 'answer a question'
  report_rows: ClassVar[tuple[base.ReportRow, ...]] = (
    base.ReportRow(
      'right answers',
      'vqa/accuracy',
      'vqa/majority_accuracy',
      'vqa/blind_accuracy',
    ),
  )

  label_smoothing: float = 0.0
  needs_image: bool = True

  answer: ClassVar[str]

  def batch_keys(self) -> tuple[str, ...]:
    image = ('image',) if self.needs_image else ()
    return ('question', self.answer, *image)

  def without_images(self) -> Self:
    return dataclasses.replace(self, needs_image=False)

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}vqa'
    answers = evaluators.Answers(
      self._predict(context),
      context.source,
      context.preprocessor,
      blind_metrics=context.blind_metrics,
      name=name,
      **context.settings(),
    )
    return {name: answers}

  def _predict(self, context: base.EvalContext) -> predict.Predict:
    raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class VqaClassification(_Vqa):
  """The model picks one of the answers of the training data.

  The module returns `answer_logits` [B, C], and has a method of that name.

  Attributes:
    label_smoothing: fraction of the target spread over all answers.
    needs_image: whether examples need an image; False for a blind baseline.
  """

  answer: ClassVar[str] = 'label'
  methods: ClassVar[Mapping[str, Any]] = {
    'answer': classify_answer,
    'answer_logits': answer_logits,
  }
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse(
    'question', _likeliest, feature='questions'
  )

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.AnswerClassification:
    del features
    return objectives.AnswerClassification(
      needs_image=self.needs_image, label_smoothing=self.label_smoothing
    )

  def _predict(self, context: base.EvalContext) -> predict.Predict:
    return predict.make_pick_answer(context.model)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VqaGeneration(_Vqa):
  """The model writes the answer.

  It returns `answer_token_logits` and writes texts of the kind 'answer'.

  Attributes:
    label_smoothing: fraction of the target spread over all tokens.
    needs_image: whether examples need an image; False for a blind baseline.
  """

  answer: ClassVar[str] = 'answer'
  methods: ClassVar[Mapping[str, Any]] = {'answer': generate_answer}
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse(
    'question', _generated, feature='questions'
  )

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.AnswerGeneration:
    del features
    return objectives.AnswerGeneration(
      label_smoothing=self.label_smoothing, needs_image=self.needs_image
    )

  def _predict(self, context: base.EvalContext) -> predict.Predict:
    return predict.make_generate(
      context.model,
      text_kind='answer',
      # The token that starts a text is not generated.
      max_new_tokens=context.preprocessor['questions'].max_new_tokens,
      beam_size=context.config.eval.beam_size,
    )
