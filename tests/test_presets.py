"""Presets in configs and flags, and what another encoder left behind."""

import pytest

from mmjax import models, presets
from mmjax.config import overrides, settings
from mmjax.errors import ConfigError

TEXT = {
  'name': 'transformer',
  **dict.fromkeys(('width', 'depth', 'num_heads', 'mlp_dim'), 2),
}
RESNET = {'name': 'resnet', 'stages': (1, 2), 'stem': 'patch', 'width': 5}


def _config(image):
  return settings.complete(
    {'model': {'name': 'dual_encoder', 'image': image, 'text': TEXT}}
  )


def _build(config):
  model = {'embed_dim': 3, **config.model.to_dict()}
  sizes = models.DataSizes(vocab_size=11, text_length=7)
  return models.build(model, sizes)


def test_a_name_stands_for_settings_and_others_replace_some():
  assert _config('vit-b16').model.image.to_dict() == presets.PRESETS['vit-b16']
  image = {'name': 'vit-s16', 'depth': 2, 'patch_dropout': 0.5}
  built = _build(_config(image)).image
  assert (built.depth, built.width, built.patch_dropout) == (2, 384, 0.5)
  encoders = {'encoders': {'photo': 'resnet18', 'text': TEXT}}
  photo = settings.complete({'model': encoders}).model.encoders.photo
  assert photo.to_dict() == presets.PRESETS['resnet18']


def test_a_flag_replaces_the_whole_section():
  config = _config(RESNET)
  overrides.override(
    config, [('model.image', 'vit-b32'), ('model.image.depth', '3')]
  )
  assert config.model.image.to_dict() == presets.PRESETS['vit-b32'] | {
    'depth': 3
  }
  assert settings.complete(config) == config
  overrides.override(config, [('model.image', 'None')])
  assert config.model.image is None


@pytest.mark.parametrize('name', ['ViT-B/16', 'vit_b16', 'vit-b-16'])
def test_another_spelling_is_refused(name):
  message = f"model.image='{name}' is unknown; did you mean 'vit-b16'"
  with pytest.raises(ConfigError, match=message):
    _config(name)


def test_leftovers_are_named_with_the_ways_to_replace_the_section():
  config = _config(RESNET)
  overrides.override(config, [('model.image.name', 'vit')])
  message = (
    r"model\.image: stages, stem do not go with name='vit', but with resnet; "
    r'to replace the whole section: --config\.model\.image=vit-s16 or '
    r'--config\.model\.image="dict\(name=\'vit\', patch_size=\.\.\., width='
  )
  with pytest.raises(ConfigError, match=message):
    _build(config)
  text = {'name': 'recurrent', 'depth': 2, 'num_heads': 2}
  config = _config('resnet18')
  config.model.text = text
  with pytest.raises(ConfigError) as refused:
    _build(config)
  assert 'num_heads does not go with' in str(refused.value)
  assert "dict(name='recurrent', width=..." in str(refused.value)


def test_a_misspelt_setting_is_still_suggested():
  with pytest.raises(ConfigError, match=r"patchsize .*mean 'patch_size'"):
    _build(_config({'name': 'vit-b16', 'patchsize': 8}))
