"""What doesn't fit is named in a few lines, with its likely cause."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from mmjax import pretrained
from mmjax.pretrained import mismatches, tensors

GOLDEN = Path(__file__).parent / 'golden'


def read_error(folder, name, change, **config):
  """The error about a golden folder with other tensors and settings."""
  shutil.copytree(GOLDEN / name, folder, dirs_exist_ok=True)
  held = dict(safetensors.numpy.load_file(folder / tensors.FILE))
  safetensors.numpy.save_file(change(held) or held, folder / tensors.FILE)
  path = folder / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
  with pytest.raises(ValueError) as caught:
    pretrained.load(folder)
  return str(caught.value)


def test_a_long_list_ends_with_how_many_more(tmp_path):
  message = read_error(tmp_path, 'llama', lambda h: {f'x.{k}': h[k] for k in h})
  lines = message.splitlines()
  assert len(lines) == 20 and lines[9] == '  and 13 more'
  assert "the names in the file begin with 'x.'" in lines[-1]
  assert mismatches.shorten(map(str, range(8))) == '0, 1, 2, 3, 4, 5, 6, 7'


def quantise(held):
  name = 'model.layers.0.mlp.up_proj.'
  held[f'{name}qweight'] = held.pop(f'{name}weight')


def round_to_integers(held):
  held['model.norm.weight'] = held['model.norm.weight'].astype(np.int8)


def halve(held):
  return {k: v for k, v in held.items() if '.layers.1.' not in k}


@pytest.mark.parametrize(
  ('change', 'config', 'cause'),
  [
    (quantise, {}, 'Probably the file is quantised'),
    (round_to_integers, {}, 'norm.weight is of type int8, as quantised'),
    (halve, {}, 'Probably the file ends before layer 1'),
    (dict, {'num_hidden_layers': 1}, 'the file has layers up to 1, more'),
    (
      lambda h: h.pop('lm_head.weight') is None,
      {},
      'tie_word_embeddings=true',
    ),
    (dict, {'vocab_size': 7}, 'config.json gives other sizes than the file'),
    (
      lambda h: h.update({'base_model.model.q.lora_A.weight': np.ones(2)}),
      {},
      'tensors of an adapter',
    ),
  ],
)
def test_a_likely_cause_is_named(tmp_path, change, config, cause):
  assert cause in read_error(tmp_path, 'llama', change, **config)
