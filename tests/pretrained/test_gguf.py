"""GGUF files: parameters, config and tokenizer; what is refused."""

import json

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.errors import ConfigError
from mmjax.ops import tree_paths
from mmjax.pretrained import checkpoint, families, gguf_file, keys

CONFIG = {
  'vocab_size': 262,
  'hidden_size': 32,
  'intermediate_size': 64,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'max_position_embeddings': 37,
  'rms_norm_eps': 1e-5,
  'rope_theta': 500.0,
  'hidden_act': 'silu',
}
GEMMA3 = {
  'head_dim': 16,
  'hidden_activation': 'gelu_pytorch_tanh',
  'query_pre_attn_scalar': 16,
  'sliding_window': 5,
}
KINDS = {
  'gemma3': ('Gemma3ForCausalLM', True, GEMMA3),
  'llama': ('LlamaForCausalLM', True, {}),
  'qwen2': ('Qwen2ForCausalLM', False, {}),
  'qwen3': ('Qwen3ForCausalLM', True, {'head_dim': 16}),
}
# The characters that stand for bytes, which GPT-2's tokens are written in.
BYTES = sorted(
  chr(b) for b in (*range(33, 127), *range(161, 173), *range(174, 256))
) + [chr(256 + i) for i in range(68)]
TOKENS = ['<|end|>', *BYTES, 'he', 'Ġhe', '12', '<|user|>', 'hé'[:1] + 'Ã']
MERGES = ['h e', 'Ġ he', '1 2', 'h Ã']


def _swap(array, heads):
  """The order in which llama.cpp stores the rows of queries and keys."""
  halves = array.reshape(heads, 2, array.shape[0] // heads // 2, -1)
  return halves.swapaxes(1, 2).reshape(array.shape)


def _tokenizer(writer, pre='smollm'):
  writer.add_tokenizer_model('gpt2')
  writer.add_tokenizer_pre(pre)
  writer.add_token_list(TOKENS)
  kinds = [3, *[1] * (len(TOKENS) - 3), 3, 1]
  writer.add_token_types(kinds)
  writer.add_token_merges(MERGES)
  writer.add_bos_token_id(0)
  writer.add_eos_token_id(0)


def _write(path, kind, config, tensors, change=lambda writer: None, **tokens):
  """Writes a file as llama.cpp's converter does."""
  writer = gguf.GGUFWriter(path, kind)
  writer.add_context_length(config['max_position_embeddings'])
  writer.add_embedding_length(config['hidden_size'])
  writer.add_block_count(config['num_hidden_layers'])
  writer.add_feed_forward_length(config['intermediate_size'])
  writer.add_head_count(config['num_attention_heads'])
  writer.add_head_count_kv(config['num_key_value_heads'])
  writer.add_layer_norm_rms_eps(config['rms_norm_eps'])
  writer.add_rope_freq_base(config['rope_theta'])
  if 'head_dim' in config:
    writer.add_key_length(config['head_dim'])
  if 'sliding_window' in config:
    writer.add_sliding_window(config['sliding_window'])
  _tokenizer(writer, **tokens)
  change(writer)
  for name, (array, quantised) in tensors.items():
    if quantised is None:
      writer.add_tensor(name, array)
    else:
      writer.add_tensor(
        name, gguf.quantize(array, quantised), raw_dtype=quantised
      )
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


def _random_tensors(kind, config):
  """Tensors of a file, and the parameters that they should become."""
  family = families.find(config)
  shapes = checkpoint.shapes(
    family.build_module(config, jnp.float32), family.inputs(config)
  )
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes
  )
  named = dict(keys.save(family.rules(config), params))
  theirs = gguf.get_tensor_name_map(
    gguf.MODEL_ARCH[kind.upper()], config['num_hidden_layers']
  )
  out, read = {}, {}
  for name, array in named.items():
    stem, _, leaf = name.rpartition('.')
    heads = {'q_proj': 'num_attention_heads', 'k_proj': 'num_key_value_heads'}
    stored, quantised = array, None
    if kind == 'llama' and stem.rpartition('.')[2] in heads:
      stored = _swap(array, config[heads[stem.rpartition('.')[2]]])
    if kind == 'gemma3' and array.ndim == 1:
      stored = array + 1
      array = stored - 1  # As rounded.
    if array.ndim == 2:
      quantised = gguf.GGMLQuantizationType.Q8_0
      if 'up_proj' in name:
        quantised = gguf.GGMLQuantizationType.F16
      rounded = gguf.dequantize(gguf.quantize(array, quantised), quantised)
      array = np.asarray(rounded, np.float32)
    out[f'{theirs.get_name(stem)}.{leaf}'] = stored, quantised
    read[name] = array
  return out, read


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
      name, tied, further = KINDS[kind]
      config = {
        **CONFIG,
        'model_type': {'gemma3': 'gemma3_text'}.get(kind, kind),
        'architectures': [name],
        'tie_word_embeddings': tied,
        **further,
      }
      tensors, arrays = _random_tensors(kind, config)
      _write(folder / f'{kind}.gguf', kind, config, tensors)
      family = families.find(config)
      module = family.build_module(config, jnp.float32)
      shapes = checkpoint.shapes(module, family.inputs(config))
      params = keys.load(family.rules(config), _Read(arrays), shapes)
      found[kind] = folder / f'{kind}.gguf', module, params, tensors, config
    return found[kind]

  return find


@pytest.mark.parametrize('kind', KINDS)
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
  text = ' he 123<|end|>é'
  assert again.tokenize_rows(text) == model.tokenize_rows(text)
  assert again.eos_ids == (0,)


def test_texts_become_tokens_as_the_metadata_says(files, tmp_path):
  model = pretrained.load(files('llama')[0])
  (ids,) = model.tokenize_rows('he he<|user|>12')
  tokens = [TOKENS[i] for i in ids]
  # Digits are words of their own, so that they are not merged.
  assert tokens == ['he', 'Ġhe', '<|user|>', '1', '2']
  assert model.tokenizer.decode(ids) == 'he he12'
  assert model.tokenizer.decode(model.tokenize_rows('é 你')[0]) == 'é 你'
  *_, tensors, config = files('llama')
  _write(
    tmp_path / 'a.gguf',
    'llama',
    config,
    tensors,
    lambda writer: writer.add_add_bos_token(True),
    pre='gpt-2',
  )
  (ids,) = pretrained.load(tmp_path / 'a.gguf').tokenize_rows('12')
  assert [TOKENS[i] for i in ids] == ['<|end|>', '12']


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
  _write(path, 'llama', config, tensors)
  rope = pretrained.load(path).config['rope_scaling']
  assert (rope['rope_type'], rope['factor']) == ('llama3', factor)
  tensors['rope_freqs.weight'] = np.float32([1, 1, 1, 7]), None
  _write(path, 'llama', config, tensors)
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
  _write(tmp_path / 'a.gguf', 'llama', config, tensors, change)
  with pytest.raises(ConfigError, match=message):
    pretrained.load(tmp_path / 'a.gguf')


def test_unknown_kinds_are_refused(files, tmp_path):
  *_, tensors, config = files('llama')
  path = tmp_path / 'a.gguf'
  _write(path, 'falcon', config, tensors)
  with pytest.raises(ConfigError, match="is 'falcon'; of GGUF files"):
    pretrained.load(path)
  _write(path, 'llama', config, tensors, pre='chameleon')
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
    '<|end|>'
  )
