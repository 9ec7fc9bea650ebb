"""How a run differs from the training of the weights that it starts from."""

from collections.abc import Mapping
from typing import Any

from mmjax import models
from mmjax.parallel import hosts
from mmjax.runs import conversation_inputs, init_entries


def log_differences(
  config: Any, start: init_entries.InitEntry, described: Mapping[str, Any]
) -> None:
  """Logs how a run differs from the training of its source.

  Args:
    config: the run's, with the settings of the source.
    start: what is taken from it.
    described: settings of that part of the model.
  """
  source = start.source
  # Only the sigmoid loss has a bias.
  contrast = config.tasks.get('contrastive', {'kind': 'sigmoid'})
  if 'logit_bias_init' in described and contrast.get('kind') != 'sigmoid':
    hosts.log(
      f'init_from: {source.folder} was trained with the sigmoid loss, this '
      'run takes the softmax loss; tasks.contrastive.kind=sigmoid '
      'continues its training'
    )
  if start.encoder and start.encoder.part == 'sound':
    trained_seconds = start.encoder.inputs[0]['seconds']
    (feature,) = models.find_encoder_inputs(config.model)[start.name]
    seconds = config.data.features[feature].seconds
    if seconds < trained_seconds:
      hosts.log(
        f'init_from: {source.folder} was trained with sounds of '
        f'{trained_seconds} s, this run takes {seconds} s'
      )
  if source.note and not conversation_inputs.keeps_sizes(config.data):
    hosts.log(f'init_from: {source.note}')


def log_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
  """Logs what a source sets.

  Args:
    before: values of the config, by path.
    after: those of the sources.
  """
  listed = ['the model']
  for name, value in after.items():
    old = before[name]
    replaced = f' (not {old!r:.80})' if old and old != value else ''
    listed.append(f'{name}={value!r:.200}{replaced}')
  hosts.log(f'init_from sets {", ".join(listed)}')
