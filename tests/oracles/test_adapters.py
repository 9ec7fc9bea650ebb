"""Adapters here equal those of PEFT, in both directions."""

import copy
import json
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch
import transformers

from mmjax import pretrained
from mmjax.nn import adapters
from mmjax.ops import tree_paths
from mmjax.pretrained import checkpoint, families, peft_layers, tensors

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'
IDS = np.random.default_rng(0).integers(3, 11, (2, 7))
# Heads whose matrix is no dense layer here, a pooler that nothing reads, a
# matrix that PyTorch reads itself, and halves of a matrix of DINOv2.
OTHERS = re.compile(
  r'(.*\.)?(lm_head|proj_out|predictions\.decoder|text_model\.pooler\.dense'
  r'|vision_model\.head\.attention\.out_proj'
  r'|mlp\.(gate|up)_proj)'
)
# Folder of the base model -> settings of its adapters.
CASES = {
  'llama': {'target_modules': ['q_proj', 'v_proj', 'o_proj', 'up_proj']},
  'llama_some_layers': {
    'target_modules': ['k_proj', 'down_proj'],
    'layers_to_transform': [1],
    'use_dora': True,
  },
  'qwen2': {
    'target_modules': 'all-linear',
    'use_rslora': True,
    'rank_pattern': {'layers.0.self_attn.q_proj': 5},
    'alpha_pattern': {'mlp.up_proj': 9},
  },
  'qwen2_dora': {
    'target_modules': ['q_proj', 'gate_proj'],
    'use_dora': True,
    'modules_to_save': ['norm', 'v_proj'],
  },
  'gpt2': {'target_modules': ['c_attn', 'c_proj'], 'fan_in_fan_out': True},
  'gpt2_dora': {
    'target_modules': ['c_attn'], 'fan_in_fan_out': True, 'use_dora': True,
  },
}  # fmt: skip


# Models whose key table is that of the classes that transformers has.
MODELS = sorted(
  path.parent.name
  for path in GOLDEN.glob('*/config.json')
  # The first two have no dense layers.
  if path.parent.name not in ('encodec', 'resnet', 'whisper_ctranslate2')
  and 'architectures' in json.loads(path.read_text())
)


@pytest.mark.parametrize('name', MODELS)
def test_layers_have_the_names_of_transformers(name):
  config, *_ = checkpoint.read_folder(GOLDEN / name)
  module = families.find(config).build_module(config, jnp.float32)
  layers = peft_layers.find(module, config)
  kind = getattr(transformers, config['architectures'][0])
  with torch.device('meta'):
    model = kind(transformers.AutoConfig.from_pretrained(GOLDEN / name))
  there = {
    name: part.weight.numel()
    for name, part in model.named_modules()
    if isinstance(part, torch.nn.Linear | transformers.pytorch_utils.Conv1D)
  }
  here = {
    name: math.prod(slots[0].shape) * slots[0].parts
    for name, slots in layers.slots.items()
  }
  assert here and here.items() <= there.items()
  assert all(name in here or OTHERS.fullmatch(name) for name in there)


def _find(name):
  return GOLDEN / name.split('_')[0]


def close(got, want):
  """Equal up to rounding of float32, relative to the largest number."""
  got, want = np.asarray(got), np.asarray(want.detach())
  size = max(1.0, np.abs(want).max())
  np.testing.assert_allclose(got / size, want / size, rtol=0, atol=1e-5)


def _base(folder):
  kind = json.loads((folder / 'config.json').read_text())['architectures'][0]
  model = getattr(transformers, kind).from_pretrained(folder)
  return model.float().eval()


def _adapt(model, name):
  """A model with random adapters, of which no matrix is 0."""
  settings = {'r': 3, 'lora_alpha': 5, **CASES[name]}
  torch.manual_seed(0)  # PEFT draws the first matrices.
  adapted = peft.get_peft_model(model, peft.LoraConfig(**settings))
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for parameter in adapted.parameters():
      if parameter.requires_grad:
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.add_(0.3 * drawn)
  return adapted.eval()


@pytest.fixture(scope='module', params=CASES)
def case(request, tmp_path_factory):
  """PEFT's model, its folder, and the same model here."""
  folder = tmp_path_factory.mktemp(request.param)
  adapted = _adapt(_base(_find(request.param)), request.param)
  adapted.save_pretrained(folder)
  path = folder / 'adapter_config.json'
  config = json.loads(path.read_text())
  config['base_model_name_or_path'] = str(_find(request.param))
  path.write_text(json.dumps(config))
  return request.param, adapted, pretrained.load(folder)


def _logits(loaded, params):
  batch = {
    'text': jnp.asarray(IDS, jnp.int32),
    'text_mask': jnp.ones((2, 7), bool),
  }
  out = loaded.module.apply({'params': params}, batch, train=False)
  return out['text_logits']


def test_outputs_and_merged_weights_are_those_of_peft(case, tmp_path):
  name, adapted, loaded = case
  want = adapted(torch.from_numpy(IDS)).logits
  got = _logits(loaded, loaded.params)
  close(got, want)
  plain = _base(_find(name))(torch.from_numpy(IDS)).logits
  assert np.abs(np.asarray(got) - plain.detach().numpy()).max() > 1e-2
  pretrained.save(loaded, tmp_path)
  merged = copy.deepcopy(adapted).merge_and_unload().state_dict()
  ours = tensors.Tensors(tmp_path)
  for tensor in ours.names:
    close(ours.read(tensor), merged[tensor])


def test_adapters_saved_here_load_there(case, tmp_path):
  name, adapted, loaded = case
  pretrained.save_adapter(loaded, tmp_path)
  again = peft.PeftModel.from_pretrained(_base(_find(name)), tmp_path)
  # PEFT in float64: in float32 its own rounding can exceed the tolerance.
  want = copy.deepcopy(adapted).double()(torch.from_numpy(IDS)).logits
  close(again.eval().double()(torch.from_numpy(IDS)).logits.detach(), want)
  back = pretrained.load(tmp_path)
  close(_logits(back, back.params), want)


@pytest.mark.parametrize('case', ['llama', 'qwen2_dora'], indirect=True)
def test_gradients_are_those_of_peft(case, tmp_path):
  _, adapted, loaded = case
  adapted.zero_grad()
  weights = np.random.default_rng(1).normal(size=(2, 7, 1))
  logits = adapted(torch.from_numpy(IDS)).logits
  (torch.log_softmax(logits, -1) * torch.from_numpy(weights)).mean().backward()
  gradients = copy.deepcopy(adapted)
  with torch.no_grad():
    pairs = zip(gradients.parameters(), adapted.parameters(), strict=True)
    for theirs, parameter in pairs:
      if parameter.requires_grad:
        theirs.copy_(parameter.grad)
  gradients.save_pretrained(tmp_path)
  config = tmp_path / 'adapter_config.json'
  config.write_text(
    config.read_text().replace(
      '"base_model_name_or_path": null',
      f'"base_model_name_or_path": "{loaded.base}"',
    )
  )

  def loss(params):
    logits = jax.nn.log_softmax(_logits(loaded, params))
    return (logits * jnp.asarray(weights, jnp.float32)).mean()

  got = tree_paths.flatten(jax.jit(jax.grad(loss))(loaded.params))
  want = tree_paths.flatten(pretrained.load(tmp_path).params)
  for path in want:
    if adapters.is_trained(path) or path in loaded.tuned:
      close(got[path], torch.from_numpy(np.array(want[path])))
