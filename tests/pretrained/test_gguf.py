"""GGUF files: parameters, config and tokenizer; what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.errors import ConfigError
from mmjax.ops import tree_paths
from mmjax.pretrained import checkpoint, families, gguf_file, keys
from tests.pretrained import gguf_writing


class _Read:
  def __init__(self, arrays):
    self.names = frozenset(arrays)
    self.shape = lambda name: arrays[name].shape
    self.read = arrays.__getitem__
    self.stored_name = lambda name: name


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """Function from an architecture to its file and parameters; written once."""
  folder, found = tmp_path_factory.mktemp('gguf'), {}

  def find(kind):
    if kind not in found:
      config = gguf_writing.make_config(kind)
      tensors, arrays = gguf_writing.make_tensors(kind, config)
      gguf_writing.write(folder / f'{kind}.gguf', kind, config, tensors)
      family = families.find(config)
      module = family.build_module(config, jnp.float32)
      shapes = checkpoint.shapes(module, family.inputs(config))
      params = keys.load(family.rules(config), _Read(arrays), shapes)
      found[kind] = folder / f'{kind}.gguf', module, params, tensors, config
    return found[kind]

  return find


@pytest.mark.parametrize('kind', gguf_writing.KINDS)
def test_parameters_are_those_of_the_same_model(files, kind):
  path, module, params, *_ = files(kind)
  model = pretrained.load(path)
  assert model.module == module
  got, want = tree_paths.flatten(model.params), tree_paths.flatten(params)
  assert got.keys() == want.keys()
  for name, leaf in got.items():
    np.testing.assert_array_equal(leaf, want[name], err_msg=name)


def test_a_model_is_saved_as_a_folder_with_its_tokenizer(files, tmp_path):
  model = pretrained.load(files('qwen2')[0])
  pretrained.save(model, tmp_path)
  again = pretrained.load(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
  text = ' he 123<|endoftext|>é'
  assert again.tokenize_rows(text) == model.tokenize_rows(text)
  assert again.eos_ids == (0,)


def test_texts_become_tokens_as_the_metadata_says(files, tmp_path):
  model = pretrained.load(files('llama')[0])
  (ids,) = model.tokenize_rows('he he<|user|>12')
  tokens = [gguf_writing.TOKENS[i] for i in ids]
  # Digits are words of their own, so that they are not merged.
  assert tokens == ['he', 'Ġhe', '<|user|>', '1', '2']
  assert model.tokenizer.decode(ids) == 'he he12'
  assert model.tokenizer.decode(model.tokenize_rows('é 你')[0]) == 'é 你'
  *_, tensors, config = files('llama')
  gguf_writing.write(
    tmp_path / 'a.gguf',
    'llama',
    config,
    tensors,
    lambda writer: writer.add_add_bos_token(True),
    pre='gpt-2',
  )
  (ids,) = pretrained.load(tmp_path / 'a.gguf').tokenize_rows('12')
  assert [gguf_writing.TOKENS[i] for i in ids] == ['<|endoftext|>', '12']


def test_pieces_begin_with_a_space_and_fall_back_to_bytes():
  bytes_of = [f'<0x{b:02X}>' for b in range(256)]
  tokens = ['<unk>', '<s>', '</s>', *bytes_of, '▁a', 'ab', '▁', 'a', 'b', '▁ab']
  metadata = {
    'tokenizer.ggml.model': 'llama',
    'tokenizer.ggml.tokens': tokens,
    'tokenizer.ggml.scores': [0.0] * len(tokens),
    'tokenizer.ggml.token_type': [2, 3, 3, *[6] * 256, *[1] * 6],
    'tokenizer.ggml.bos_token_id': 1,
  }
  build = gguf_file.gguf_tokenizer.build
  read = lambda text, **more: [
    tokens[i] for i in build(metadata | more).encode(text).ids
  ]
  assert read('ab a\n') == ['<s>', '▁ab', '▁a', '<0x0A>']
  assert read('ab</s>', **{'tokenizer.ggml.add_space_prefix': False}) == [
    '<s>', 'ab', '</s>',
  ]  # fmt: skip


@pytest.mark.parametrize('factor', [8.0, 32.0])
def test_frequencies_of_llama_3_become_its_settings(files, tmp_path, factor):
  *_, tensors, config = files('llama')
  config = {**config, 'rope_theta': 1e6}
  theta, number = config['rope_theta'], 4
  # As convert_hf_to_gguf.py writes them.
  divisors = []
  for i in range(number):
    length = 2 * np.pi * theta ** (2 * i / 8)
    smooth = (8192 / length - 1) / 3
    middle = 1 / ((1 - smooth) / factor + smooth)
    divisors.append(1 if length < 2048 else factor if length > 8192 else middle)
  tensors = {**tensors, 'rope_freqs.weight': (np.float32(divisors), None)}
  path = tmp_path / 'a.gguf'
  gguf_writing.write(path, 'llama', config, tensors)
  rope = pretrained.load(path).config['rope_scaling']
  assert (rope['rope_type'], rope['factor']) == ('llama3', factor)
  tensors['rope_freqs.weight'] = np.float32([1, 1, 1, 7]), None
  gguf_writing.write(path, 'llama', config, tensors)
  with pytest.raises(ConfigError, match='frequencies of rotary positions'):
    pretrained.load(path)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda w: w.add_uint32('llama.expert_count', 8), 'mixture of experts'),
    (
      lambda w: w.add_string('llama.rope.scaling.type', 'yarn'),
      "rope.scaling.type is 'yarn'",
    ),
    (
      lambda w: w.add_tensor('v.patch_embd', np.ones(32, np.float32)),
      'v.patch',
    ),
    (
      lambda w: w.kv_data[0].pop('tokenizer.ggml.merges'),
      'the metadata has no tokenizer.ggml.merges',
    ),
  ],
)
def test_models_that_mmjax_lacks_are_refused(files, tmp_path, change, message):
  *_, tensors, config = files('llama')
  gguf_writing.write(tmp_path / 'a.gguf', 'llama', config, tensors, change)
  with pytest.raises(ConfigError, match=message):
    pretrained.load(tmp_path / 'a.gguf')


def test_unknown_kinds_are_refused(files, tmp_path):
  *_, tensors, config = files('llama')
  path = tmp_path / 'a.gguf'
  gguf_writing.write(path, 'falcon', config, tensors)
  with pytest.raises(ConfigError, match="is 'falcon'; of GGUF files"):
    pretrained.load(path)
  gguf_writing.write(path, 'llama', config, tensors, pre='chameleon')
  with pytest.raises(ConfigError, match=r"ggml\.pre is 'chameleon'"):
    pretrained.load(path)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda content: content[:-4000], 'broken or cut off'),
    (lambda content: content[:200], 'broken or cut off'),
    (lambda content: b'PK' + content[2:], 'broken or cut off'),
    (
      lambda _: b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n',
      'Git',
    ),
  ],
)
def test_broken_files_are_refused(files, tmp_path, make, message):
  path = tmp_path / 'a.gguf'
  path.write_bytes(make(files('llama')[0].read_bytes()))
  with pytest.raises(ConfigError, match=message):
    pretrained.load(path)


def test_generation_ends_where_the_metadata_says(files):
  model = pretrained.load(files('qwen2')[0])
  assert model.settings('generation_config.json')['eos_token_id'] == 0
  assert json.loads(model.file('tokenizer_config.json'))['eos_token'] == (
    '<|endoftext|>'
  )
