"""From a run's folder back to its model, without the experiment file."""

import dataclasses
from pathlib import Path
from typing import Any

from mmjax import models
from mmjax.data import preprocess as preprocessing
from mmjax.data import tokenizers
from mmjax.train import checkpoints, settings
from mmjax.types import Params


@dataclasses.dataclass(frozen=True)
class Run:
  """A trained model with all that belongs to it.

  Attributes:
    config: what the run was started with.
    model: a Linen module.
    params: its parameters; the average, where the run kept one.
    preprocess: images, texts and questions to arrays; has the tokenizer.
  """

  config: Any
  model: Any
  params: Params
  preprocess: preprocessing.Preprocessor


def build_model(config: Any, preprocess: preprocessing.Preprocessor) -> Any:
  """The model of a config, sized for its data.

  Args:
    config: a completed config.
    preprocess: has the tokenizer and the answer vocabulary.
  """
  return models.build(
    config.model,
    vocab_size=preprocess.tokenizer.vocab_size,
    text_length=config.data.text_length,
    question_length=config.data.question_length,
    answer_length=config.data.answer_length,
    num_answers=len(preprocess.answers),
    dtype=config.train.dtype,
  )


def load(workdir: Path | str) -> Run:
  """Opens a run's folder.

  Raises:
    UserError: if it is no run's folder, or has no checkpoint yet.
  """
  workdir = Path(workdir)
  if not (workdir / 'config.json').exists():
    raise settings.UserError(
      f'{workdir} is no run: it has no config.json; give the --workdir of an '
      f'experiment'
    )
  config = settings.from_json(workdir / 'config.json')
  tokenizer = tokenizers.Tokenizer.load(workdir / 'tokenizer.json')
  preprocess = preprocessing.Preprocessor.load(
    workdir / 'preprocess.json', tokenizer
  )
  return Run(
    config=config,
    model=build_model(config, preprocess),
    params=checkpoints.load_params(workdir),
    preprocess=preprocess,
  )
