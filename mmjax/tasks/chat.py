"""The task of answering in conversations."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax import errors, evaluators, objectives
from mmjax.data import chat_messages, chat_tokenizers
from mmjax.data.features import Feature, Prompt, Turns, media_kinds
from mmjax.decoders import streaming
from mmjax.errors import ConfigError
from mmjax.models import predict
from mmjax.tasks import base, chat_inputs
from mmjax.types import Fraction, Size

# Prompts are padded to a multiple of this, so that few lengths are compiled.
_PAD_MULTIPLE = 16


def chat(
  run: base.TrainedModel,
  messages: Sequence[Mapping[str, Any]],
  *,
  max_new_tokens: int | None = None,
  beam_size: int = 1,
  seed: int = 0,
  stop: str | Sequence[str] = (),
  **settings: Any,
) -> str:
  """Answers the last message of a conversation.

  Args:
    run: the trained model.
    messages: such as {'role': 'user', 'content': 'what is it?'}.
    max_new_tokens: largest number of tokens to write; None for the task's.
    beam_size: beam size; 1 is greedy.
    seed: seed of sampling, with a `temperature`.
    stop: strings that end the answer, and don't belong to it.
    **settings: further arguments of `mmjax.models.predict.make_generate`.

  Raises:
    ConfigError: if the messages are refused; it names the turn.
  """
  task = base.find_task(run, Chat)
  new = max_new_tokens or task.max_new_tokens
  stop = streaming.check_stop(stop, settings)
  generation = task.generation_settings(run.tokenizer, new)
  if stop and beam_size == 1:
    strings = streaming.stop_strings_of(run.tokenizer)
    strings.start(1, stop, generation['eos_id'])
    settings['on_tokens'] = strings
  turns, images = chat_inputs.read(messages, run.preprocessor[task.target])
  ids = run.predict(
    predict.make_generate,
    make_batch(run, turns, images, new) | {'seed': np.int32(seed)},
    **generation,
    beam_size=beam_size,
    **settings,
  )
  text = chat_tokenizers.decode_answer(run.tokenizer, np.asarray(ids)[0])
  return streaming.cut(text, stop)


def score_options(
  run: base.TrainedModel,
  messages: Sequence[Mapping[str, Any]],
  options: Sequence[str],
) -> dict[str, float]:
  """Log-probability of each option as the answer to a conversation.

  An option is the whole answer, with the token that ends it; the likeliest is
  `max(scores, key=scores.get)`. The conversation is computed once.

  Args:
    run: the trained model.
    messages: as for `chat`.
    options: the answers to choose from.

  Returns:
    The log-probabilities by option, in their order.

  Raises:
    ConfigError: if the messages are refused; or for no option, or one twice.
  """
  feature = run.preprocessor[base.find_task(run, Chat).target]
  options = chat_messages.check_options(options)
  turns, images = chat_inputs.read(messages, feature)
  before = feature.encode(turns, prompt=True)[0]
  rows = []
  for option in options:
    answer = {'role': 'assistant', 'content': [option]}
    ids, loss_mask = feature.encode([*turns, answer])
    if ids[: len(before)] != before:
      raise ConfigError(
        f'the conversation has other tokens before the option {option!r} than '
        'without an answer, so it has no probability; leave it out'
      )
    rows.append(ids[len(before) : 1 + max(np.flatnonzero(loss_mask))])
  length = -(-max(map(len, rows)) // _PAD_MULTIPLE) * _PAD_MULTIPLE
  tokens = np.zeros((1, len(rows), length), np.int32)
  mask = np.zeros(tokens.shape, bool)
  for i, row in enumerate(rows):
    tokens[0, i, : len(row)] = row
    mask[0, i, : len(row)] = True
  batch = make_batch(run, turns, images, length)
  scores = run.predict(
    predict.make_option_scores,
    {**batch, 'options': tokens, 'options_mask': mask},
    text_kind='continue',
  )
  return dict(zip(options, np.asarray(scores)[0].tolist(), strict=True))


def make_batch(
  run: base.TrainedModel,
  turns: Sequence[Mapping[str, Any]],
  images: Mapping[str, Any],
  max_new_tokens: int,
  pad: Callable[[int], int] = lambda number: (
    -(-number // _PAD_MULTIPLE) * _PAD_MULTIPLE
  ),
) -> dict[str, Any]:
  """Arrays of one conversation up to an answer.

  Args:
    run: the trained model.
    turns: as `mmjax.tasks.chat_inputs.read` returns them.
    images: images by feature, as it returns them.
    max_new_tokens: number of tokens to write, for which padding leaves
      positions.
    pad: from the number of tokens to that of the arrays.
  """
  feature = run.preprocessor[base.find_task(run, Chat).target]
  number = len(feature.encode(turns, prompt=True)[0])
  length = pad(number)
  decoder = run.module.decoder
  if decoder.positions != 'none':  # It has positions for so many alone.
    length = max(number, min(length, decoder.max_length - max_new_tokens + 1))
  arrays = feature.make_prompt_arrays(turns, length)
  batch = {key: array[None] for key, array in arrays.items()}
  return {**batch, **chat_inputs.prepare(run, feature, images)}


def _lines(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  task = base.find_task(run, Chat)
  kinds = dict(media_kinds.PARTS)
  for setting, names in media_kinds.name_media(task).items():
    kinds |= dict.fromkeys(names, media_kinds.PARTS[setting])
  parts = []
  for name, value in inputs.items():
    kind = kinds.get(name, 'image')
    parts.append({'type': kind, kind: value})
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
    video: feature of the videos to which they refer, the same as the setting
      `video` of the target; '' for none.
    sound: the same of sounds.
    label_smoothing: fraction of the target spread over all tokens.
    max_new_tokens: largest number of tokens of an answer that is written.
  """

  name: ClassVar[str] = 'chat'
  kinds: ClassVar[tuple[type[Feature], ...]] = (Turns,)
  ability: ClassVar[str] = 'chat'
  methods: ClassVar[Mapping[str, Any]] = {
    'chat': chat,
    'score_options': score_options,
  }
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse(
    'question', _lines, needs_inputs=False
  )
  evaluation_only: ClassVar[tuple[str, ...]] = ('max_new_tokens',)

  target: str = 'turns'
  image: str | Sequence[str] = ''
  video: str = ''
  sound: str = ''
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
  ) -> objectives.AssistantGeneration:
    del features
    return objectives.AssistantGeneration(self.label_smoothing, self.target)

  @property
  def media_names(self) -> tuple[str, ...]:
    """Names of the features of the conversations' images and others."""
    return tuple(itertools.chain(*media_kinds.name_media(self).values()))

  def batch_keys(self) -> tuple[str, ...]:
    return (self.target, *self.media_names)

  def required_keys(self) -> Sequence[Sequence[str]]:
    return ((self.target,),)  # Conversations of words are learnt too.

  def output_sizes(self, features: Mapping[str, Feature]) -> dict[str, int]:
    feature = base.get_target(self.target, features, self.kinds)
    if isinstance(feature, Prompt) and Prompt not in self.kinds:
      raise ConfigError(
        f'tasks.{self.name}.target={self.target!r} is of the kind prompt, of '
        'which nothing is learnt; use one of the kind turns'
      )
    own, theirs = map(media_kinds.name_media, (self, feature))
    for setting in ('sound', 'video', 'image'):
      if own.get(setting) != theirs.get(setting):
        raise ConfigError(
          f'tasks.{self.name}.{setting}={getattr(self, setting)!r}, but '
          f'data.features.{self.target}.{setting}='
          f'{getattr(feature, setting)!r}; set both to the same features'
        )
    for setting, names in theirs.items():
      for name in names:
        errors.choose(name, features, f'data.features.{self.target}.{setting}')
    feature.with_features(features)
    if self.max_new_tokens >= feature.length and Prompt not in self.kinds:
      raise ConfigError(
        f'tasks.{self.name}.max_new_tokens={self.max_new_tokens} leaves no '
        f'room for a question in data.features.{self.target}.length='
        f'{feature.length}; make it smaller'
      )
    return {}

  def target_feature(self) -> str:
    return self.target

  def generation_settings(self, tokenizer: Any, number: int) -> dict[str, Any]:
    """Arguments of `predict.make_generate`, to write an answer.

    Args:
      tokenizer: the run's.
      number: largest number of tokens.
    """
    return {
      'text_kind': 'continue',
      'max_new_tokens': number,
      'eos_id': chat_tokenizers.get_end_ids(tokenizer),
    }

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}{self.target}'
    feature, decoder = context.preprocessor[self.target], context.model.decoder
    length = feature.length
    if decoder.positions != 'none':
      length = min(length, decoder.max_length - self.max_new_tokens + 1)
    conversations = evaluators.Conversations(
      predict.make_assistant_losses(context.model, target=self.target),
      predict.make_generate(
        context.model,
        beam_size=context.config.eval.beam_size,
        **self.generation_settings(
          context.preprocessor.tokenizer, self.max_new_tokens
        ),
      ),
      context.source,
      context.preprocessor,
      target=self.target,
      length=length,
      name=name,
      **context.settings(),
    )
    return {name: conversations}
