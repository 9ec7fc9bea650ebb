"""The task of answering in conversations."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax import evaluators, objectives
from mmjax.data import chat_tokenizers
from mmjax.data.features import Feature, Turns
from mmjax.errors import ConfigError, choose
from mmjax.models import predict
from mmjax.objectives.targets import Fraction
from mmjax.tasks import base, chat_inputs
from mmjax.types import Size

# Prompts are padded to a multiple of this, so that few lengths are compiled.
_STEP = 16


def chat(
  run: base.TrainedModel,
  messages: Sequence[Mapping[str, Any]],
  *,
  max_new_tokens: int | None = None,
  beam_size: int = 1,
  **settings: Any,
) -> str:
  """Answers the last message of a conversation.

  Args:
    run: the trained model.
    messages: such as {'role': 'user', 'content': 'what is it?'}.
    max_new_tokens: largest number of tokens to write; None for the task's.
    beam_size: beam size; 1 is greedy.
    **settings: further arguments of `mmjax.models.predict.make_generate`.

  Raises:
    ConfigError: if the messages are refused; it names the turn.
  """
  task = base.find_task(run, Chat)
  feature = run.preprocessor[task.target]
  turns, images = chat_inputs.read(messages, feature)
  number = len(feature.encode(turns, prompt=True)[0])
  length = -(-number // _STEP) * _STEP
  new = max_new_tokens or task.max_new_tokens
  decoder = run.module.decoder
  if decoder.positions != 'none':  # It has positions for so many alone.
    length = max(number, min(length, decoder.max_length - new + 1))
  arrays = feature.make_prompt(turns, length)
  batch = {key: array[None] for key, array in arrays.items()}
  ids = run.apply(
    predict.make_generate,
    {**batch, **chat_inputs.prepare(run, feature, images)},
    **task.writing(run.tokenizer, new),
    beam_size=beam_size,
    **settings,
  )
  return chat_tokenizers.decode_answer(run.tokenizer, np.asarray(ids)[0])


def _lines(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  parts = [{'type': 'image', 'image': image} for image in inputs.values()]
  return [
    chat(
      run, [{'role': 'user', 'content': [*parts, text]}], beam_size=beam_size
    )
    for text in texts
  ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chat(base.Task):
  """The model says in conversations what the assistant says.

  It learns the assistant's tokens alone, from all that is before them (Liu et
  al. 2023, equation 3). It returns `TARGET_logits`, and has `generate` for
  'continue', as `mmjax.models.LanguageModel` does.

  Attributes:
    target: feature of the kind turns.
    image: features of the images to which conversations refer, one or several,
      the same as the setting `image` of the target; '' for none.
    label_smoothing: fraction of the target spread over all tokens.
    max_new_tokens: largest number of tokens of an answer that is written.
  """

  ability: ClassVar[str] = 'chat'
  methods: ClassVar[Mapping[str, Any]] = {'chat': chat}
  predict_flag: ClassVar[base.PredictFlag | None] = base.PredictFlag(
    'question', _lines, needs_inputs=False
  )

  target: str = 'turns'
  image: str | Sequence[str] = ''
  label_smoothing: Fraction = 0.0
  max_new_tokens: Size = 64

  @property
  def report_rows(self) -> tuple[base.ReportRow, ...]:
    name = self.target
    return (
      base.ReportRow(
        f'{name} answers exact', f'{name}/exact', f'{name}/chance_exact'
      ),
      base.ReportRow(
        f'{name} perplexity', f'{name}/perplexity', lower_is_better=True
      ),
    )

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.Conversation:
    del features
    return objectives.Conversation(self.label_smoothing, self.target)

  def needs(self) -> tuple[str, ...]:
    return (self.target, *_list_names(self.image))

  def alternatives(self) -> Sequence[Sequence[str]]:
    return ((self.target,),)  # Conversations without an image are learnt too.

  def output_sizes(self, features: Mapping[str, Feature]) -> dict[str, int]:
    feature = base.get_target(self.target, features, (Turns,))
    if _list_names(self.image) != feature.image_names:
      raise ConfigError(
        f'tasks.chat.image={self.image!r}, but '
        f'data.features.{self.target}.image={feature.image!r}; set both to the '
        'same features'
      )
    for name in feature.image_names:
      choose(name, features, f'data.features.{self.target}.image')
    feature.with_features(features)
    if self.max_new_tokens >= feature.length:
      raise ConfigError(
        f'tasks.chat.max_new_tokens={self.max_new_tokens} leaves no room for a '
        f'question in data.features.{self.target}.length={feature.length}; '
        'make it smaller'
      )
    return {}

  def output_text(self) -> str:
    return self.target

  def writing(self, tokenizer: Any, number: int) -> dict[str, Any]:
    """Arguments of `predict.make_generate`, to write an answer.

    Args:
      tokenizer: the run's.
      number: largest number of tokens.
    """
    return {
      'output': 'continue',
      'max_new_tokens': number,
      'eos_id': chat_tokenizers.get_end_ids(tokenizer),
    }

  def evaluators(self, split: base.Split) -> dict[str, evaluators.Evaluator]:
    name = f'{split.prefix}{self.target}'
    feature, decoder = split.preprocessor[self.target], split.model.decoder
    length = feature.length
    if decoder.positions != 'none':
      length = min(length, decoder.max_length - self.max_new_tokens + 1)
    conversations = evaluators.Conversations(
      predict.make_learnt_losses(split.model, target=self.target),
      predict.make_generate(
        split.model,
        beam_size=split.config.eval.beam_size,
        **self.writing(split.preprocessor.tokenizer, self.max_new_tokens),
      ),
      split.source,
      split.preprocessor,
      target=self.target,
      length=length,
      name=name,
      **split.settings(),
    )
    return {name: conversations}


def _list_names(image: str | Sequence[str]) -> tuple[str, ...]:
  names = (image,) if isinstance(image, str) else image
  return tuple(filter(None, names))
