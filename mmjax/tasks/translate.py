"""The task of writing a text from other features."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmjax import evaluators, objectives
from mmjax.data.features import Feature, Text
from mmjax.errors import ConfigError
from mmjax.models import predict
from mmjax.tasks import base
from mmjax.types import Fraction


def translate(
  run: base.TrainedModel, *, beam_size: int = 1, **values: Any
) -> list[str]:
  """The text of each, from some of the inputs.

  Args:
    run: the trained model.
    beam_size: beam size; 1 is greedy.
    **values: one value or several of each input; the others count as absent.
  """
  task = base.find_task(run, Translate)
  ids = run.predict(
    predict.make_generate,
    base.prepare_inputs(run, values),
    text_kind='write',
    max_new_tokens=run.preprocessor[task.target].max_new_tokens,
    beam_size=beam_size,
  )
  return run.decode(ids)


def _lines(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  del texts
  return translate(run, beam_size=beam_size, **inputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translate(base.Task):
  """The model writes one text feature from the features that it reads.

  It returns `TARGET_logits` and has `generate` for the task 'write'. With
  texts of two languages this is translation, with an image beside them
  multimodal translation (Specia et al. 2016), from sound recognition.

  Attributes:
    target: feature of the kind text.
    label_smoothing: fraction of the target spread over all tokens.
  """

  ability: ClassVar[str] = 'write a text'
  methods: ClassVar[Mapping[str, Any]] = {'translate': translate}
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse('', _lines)

  target: str = ''
  label_smoothing: Fraction = 0.0

  @property
  def report_rows(self) -> tuple[base.ReportRow, ...]:
    return (
      base.ReportRow(
        f'{self.target} exact',
        f'{self.target}/exact',
        f'{self.target}/chance_exact',
      ),
    )

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.TextGeneration:
    del features
    if not self.target:
      raise ConfigError("tasks.translate.target='' names no feature to write")
    return objectives.TextGeneration(self.label_smoothing, self.target)

  def batch_keys(self) -> tuple[str, ...]:
    return (self.target,)

  def output_sizes(self, features: Mapping[str, Feature]) -> dict[str, int]:
    base.get_target(self.target, features, (Text,))
    return {}

  def target_feature(self) -> str:
    return self.target

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}{self.target}'
    texts = evaluators.Texts(
      predict.make_generate(
        context.model,
        text_kind='write',
        # The token that starts a text is not generated.
        max_new_tokens=context.preprocessor[self.target].max_new_tokens,
        beam_size=context.config.eval.beam_size,
      ),
      context.source,
      context.preprocessor,
      target=self.target,
      inputs=context.inputs,
      name=name,
      **context.settings(),
    )
    return {name: texts}
