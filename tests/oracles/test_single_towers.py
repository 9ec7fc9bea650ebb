"""One tower of CLIP or SigLIP, as transformers computes it."""

import numpy as np
import pytest
import torch
import transformers

from tests.oracles import harness

SHARED = {
  'hidden_size': 12,
  'intermediate_size': 20,
  'num_hidden_layers': 2,
  'num_attention_heads': 3,
}
IMAGES = {**SHARED, 'image_size': 15, 'patch_size': 5}
TEXTS = {**SHARED, 'vocab_size': 17, 'max_position_embeddings': 7}
KINDS = {
  'CLIPVisionModel': ('CLIPVisionConfig', IMAGES),
  'CLIPVisionModelWithProjection': (
    'CLIPVisionConfig',
    {**IMAGES, 'projection_dim': 5},
  ),
  'SiglipVisionModel': ('SiglipVisionConfig', IMAGES),
  'SiglipTextModel': ('SiglipTextConfig', TEXTS),
  'CLIPTextModel': ('CLIPTextConfig', {**TEXTS, 'eos_token_id': 16}),
  'CLIPTextModelWithProjection': (
    'CLIPTextConfig',
    {**TEXTS, 'eos_token_id': 16, 'projection_dim': 5},
  ),
}


@pytest.mark.parametrize('kind', KINDS)
def test_a_tower(kind, tmp_path):
  torch.manual_seed(0)
  config, settings = KINDS[kind]
  model = harness.randomise(
    getattr(transformers, kind)(getattr(transformers, config)(**settings))
  )
  loaded = harness.load_saved(model, tmp_path / 'in')
  tower = model
  for name in ('vision_model', 'text_model'):
    tower = getattr(tower, name, tower)
  rng = np.random.default_rng(0)
  if 'Vision' in kind:
    pixels = rng.normal(size=(2, 15, 15, 3)).astype(np.float32)
    given = torch.tensor(pixels).permute(0, 3, 1, 2)
    got = loaded.jit_method('encode')(loaded.params, pixels)
  else:
    ids = np.array([[0, 3, 5, 16, 1, 1, 1], [0, 9, 8, 7, 6, 5, 16]], np.int32)
    mask = np.array([[1, 1, 1, 1, 0, 0, 0], [1] * 7], bool)
    given = torch.tensor(ids).long()
    got = loaded.jit_method('__call__', train=False)(loaded.params, ids, mask)
  with torch.no_grad():
    want = tower(given)
  harness.check_close(got.pooled, want.pooler_output)
  harness.check_saved(model, loaded, tmp_path / 'out')
