"""Builds the model of a config, sized for the config's data."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import models
from mmjax.data import augment, tokenizers
from mmjax.data import preprocess as preprocessing
from mmjax.data.features import Feature
from mmjax.errors import ConfigError
from mmjax.models import contracts, conversations, flexible_images, masking

# Kinds of inputs whose arrays have a shape that settings determine.
_OF_KNOWN_SHAPE = ('image', 'sound', 'video')


def check(
  config: Any,
  features: Mapping[str, Feature],
  outputs: models.OutputSpec,
  tables: models.Tables = models.BUILT_IN,
) -> None:
  """Refuses settings of the model and of augmentations.

  Builds them for a vocabulary of one token, so that a mistake is refused before
  any data is opened.

  Args:
    config: a completed config.
    features: features by name, perhaps not fitted.
    outputs: what the tasks need the model to return.
    tables: the models and parts that a config can name.

  Raises:
    ConfigError: naming the field and its legal values.
  """
  augment.check(config.data.augment or ())
  _check_targets(config, (*outputs.sizes, outputs.text))
  conversations.check(config.model, features, outputs)
  built = models.build(
    config.model,
    models.DataSizes(1, **_lengths(config), features=features),
    outputs,
    dtype=config.train.dtype,
    tables=tables,
  )
  conversations.check_built(built, features, outputs)
  flexible_images.check(built, features)
  if outputs.masked_heads:
    masking.check(built, outputs.masked_heads)
  if isinstance(built, models.Multimodal):
    _check_arrays(built, features)


def build(
  config: Any,
  preprocessor: preprocessing.Preprocessor,
  outputs: models.OutputSpec,
  tables: models.Tables = models.BUILT_IN,
) -> nn.Module:
  """Makes the model of a config, sized for the config's data.

  Args:
    config: a completed config.
    preprocessor: has the tokenizer and the answer vocabulary.
    outputs: what the tasks need the model to return.
    tables: the models and parts that a config can name.
  """
  tokenizer = preprocessor.tokenizer
  questions = preprocessor.features.get('questions')
  has_label = questions is not None and questions.has_label
  return models.build(
    conversations.set_placeholder(
      config.model.to_dict(),
      preprocessor.features.get(outputs.text),
      tokenizer,
    ),
    models.DataSizes(
      tokenizer.vocab_size if tokenizer else 1,
      **_lengths(config),
      num_answers=len(questions.answers) if has_label else 0,
      special_ids=_special_ids(config, tokenizer, tables) if tokenizer else {},
      features=preprocessor.features,
    ),
    outputs,
    dtype=config.train.dtype,
    tables=tables,
  )


def _lengths(config: Any) -> dict[str, int]:
  """The lengths of texts, by the names of `DataSizes`."""
  names = ('text_length', 'question_length', 'answer_length')
  return {name: getattr(config.data, name) for name in names}


def _special_ids(
  config: Any, tokenizer: tokenizers.Tokenizer, tables: models.Tables
) -> dict[str, int]:
  """The tokenizer's special ids, by the names of the model's settings.

  Raises:
    ConfigError: if the model writes texts and no token starts one.
  """
  cls = tables.models.get(config.model.get('name'))
  starts = config.model.get('decoder') and hasattr(cls, 'bos_id')
  if starts and issubclass(cls, models.InterleavedVisionLanguage):
    starts = config.model.get('encoder')  # Else a text is continued.
  if tokenizer.bos_id is None and starts:
    raise ConfigError(
      f'data.tokenizer={config.data.tokenizer!r} has no token that starts a '
      'text, which model.decoder needs; name one of its tokens, such as '
      "--config.data.bos='<|endoftext|>'"
    )
  names = ('bos_id', 'eos_id', 'pad_id')
  return {name: getattr(tokenizer, name) for name in names}


def _check_arrays(
  model: models.Multimodal, features: Mapping[str, Feature]
) -> None:
  """Refuses lengths and sizes of features that their encoders can't read.

  Encoders of texts have the length of theirs, and the widths of rows, series
  and the like are known with the data.
  """
  for name in model.encoders:
    (key, *more) = (model.encoder_inputs or {}).get(name, (name,))
    feature = features.get(key)
    if more or feature is None or not feature.is_fitted:
      continue
    if feature.encoded_as not in _OF_KNOWN_SHAPE:
      continue
    batch = {k: jnp.asarray(x)[None] for k, x in feature.make_absent().items()}
    batch |= feature.make_inputs(batch)
    try:
      with contracts.checking(model):
        jax.eval_shape(
          lambda batch=batch, name=name: model.init(
            jax.random.key(0), batch, [name], method='encode'
          )
        )
    except contracts.ContractError:
      raise
    except ConfigError as error:
      raise ConfigError(
        f'model.encoders.{name} cannot read data.features.{key}: {error}'
      ) from error


def _check_targets(config: Any, targets: Sequence[str]) -> None:
  """Refuses a model that reads what it is to predict."""
  for name, inputs in models.find_encoder_inputs(config.model).items():
    for target in targets:
      if target in inputs:
        raise ConfigError(
          f'model.encoders.{name} reads {target!r}, which a task predicts; '
          'remove it from model.encoders, or predict another feature'
        )
