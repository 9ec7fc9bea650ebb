"""Builds the model of a config, sized for the config's data."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax.linen as nn

from mmjax import models
from mmjax.data import augment, tokenizers
from mmjax.data import preprocess as preprocessing
from mmjax.data.features import Feature
from mmjax.errors import ConfigError
from mmjax.models import masking


def check(
  config: Any,
  features: Mapping[str, Feature],
  output_sizes: Mapping[str, int],
  output_text: str = '',
  tables: models.Tables = models.BUILT_IN,
  masked_heads: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
  """Refuses settings of the model and of augmentations.

  Builds them for a vocabulary of one token, so that a mistake is refused before
  any data is opened.

  Args:
    config: a completed config.
    features: features by name, perhaps not fitted.
    output_sizes: number of outputs by target.
    output_text: the text feature that the model writes.
    tables: the models and parts that a config can name.
    masked_heads: settings of heads by feature of which hidden parts are
      predicted.

  Raises:
    ConfigError: naming the field and its legal values.
  """
  augment.check(config.data.augment or ())
  _check_targets(config, (*output_sizes, output_text))
  built = models.build(
    config.model,
    vocab_size=1,
    text_length=config.data.text_length,
    question_length=config.data.question_length,
    answer_length=config.data.answer_length,
    features=features,
    output_sizes=output_sizes,
    output_text=output_text,
    masked_heads=masked_heads,
    dtype=config.train.dtype,
    tables=tables,
  )
  if masked_heads:
    masking.check(built, masked_heads)


def build(
  config: Any,
  preprocessor: preprocessing.Preprocessor,
  output_sizes: Mapping[str, int],
  output_text: str = '',
  tables: models.Tables = models.BUILT_IN,
  masked_heads: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> nn.Module:
  """Makes the model of a config, sized for the config's data.

  Args:
    config: a completed config.
    preprocessor: has the tokenizer and the answer vocabulary.
    output_sizes: number of outputs by target.
    output_text: the text feature that the model writes.
    tables: the models and parts that a config can name.
    masked_heads: settings of heads by feature of which hidden parts are
      predicted.
  """
  tokenizer = preprocessor.tokenizer
  questions = preprocessor.features.get('questions')
  has_label = questions is not None and questions.has_label
  return models.build(
    config.model,
    vocab_size=tokenizer.vocab_size if tokenizer else 1,
    text_length=config.data.text_length,
    question_length=config.data.question_length,
    answer_length=config.data.answer_length,
    num_answers=len(questions.answers) if has_label else 0,
    features=preprocessor.features,
    output_sizes=output_sizes,
    output_text=output_text,
    masked_heads=masked_heads,
    special_ids=_special_ids(config, tokenizer) if tokenizer else None,
    dtype=config.train.dtype,
    tables=tables,
  )


def _special_ids(
  config: Any, tokenizer: tokenizers.Tokenizer
) -> dict[str, int]:
  """The tokenizer's special ids, by the names of the model's settings.

  Raises:
    ConfigError: if the model writes texts and no token starts one.
  """
  if tokenizer.bos_id is None and config.model.get('decoder'):
    raise ConfigError(
      f'data.tokenizer={config.data.tokenizer!r} has no token that starts a '
      'text, which model.decoder needs; name one of its tokens, such as '
      "--config.data.bos='<|endoftext|>'"
    )
  names = ('bos_id', 'eos_id', 'pad_id')
  return {name: getattr(tokenizer, name) for name in names}


def _check_targets(config: Any, targets: Sequence[str]) -> None:
  """Refuses a model that reads what it is to predict."""
  for name, inputs in models.find_encoder_inputs(config.model).items():
    for target in targets:
      if target in inputs:
        raise ConfigError(
          f'model.encoders.{name} reads {target!r}, which a task predicts; '
          'remove it from model.encoders, or predict another feature'
        )
