"""T5: as transformers computed it, out again, and refused."""

import functools
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.pretrained import checkpoint, t5, tensors

GOLDEN = Path(__file__).parent / 'golden'
TEXTS = ['a small red circle', 'cat', 'a large blue square is a cat']
NEW = 10
# Two blocks in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope='module', params=['t5', 't5_gated'])
def golden(request):
  return GOLDEN / request.param


@pytest.fixture(scope='module')
def loaded(golden):
  return pretrained.load(golden)


@pytest.fixture(scope='module')
def expected(golden):
  return np.load(golden / 'expected.npz')


def test_texts_are_read_as_transformers_does(loaded, expected):
  ids, mask = loaded.tokenize(TEXTS)
  length = expected['ids'].shape[1]
  np.testing.assert_array_equal(ids[:, :length], expected['ids'])
  np.testing.assert_array_equal(mask[:, :length], expected['mask'])
  assert not np.any(mask[:, length:])
  tokens, kept = loaded.encode_tokens(TEXTS), expected['mask']
  close(tokens.values[:, :length][kept], expected['values'][kept])
  means = [row[there].mean(0) for row, there in zip(
    expected['values'], kept, strict=True
  )]  # fmt: skip
  close(loaded.encode_text(TEXTS), means)


def test_logits_are_those_of_transformers(loaded, expected):
  ids, mask = loaded.tokenize(TEXTS[-1])
  answer = jnp.pad(jnp.asarray(expected['written'][-1:]), ((0, 0), (0, 1)))
  batch = {'question': ids, 'question_mask': mask, 'answer': answer}
  out = loaded.module.apply({'params': loaded.params}, batch, train=False)
  close(out['answer_token_logits'][0], expected['logits'])


def test_what_is_written_is_what_transformers_writes(loaded, expected):
  written = loaded.generate(TEXTS, max_new_tokens=NEW)
  assert written == expected['texts'].tolist()
  assert len(set(written)) == 3


def test_what_is_saved_is_what_was_loaded(golden, loaded, tmp_path):
  pretrained.save(loaded, tmp_path)
  again = pretrained.load(tmp_path)
  assert again.config == loaded.config and again.files == loaded.files
  there, here = tensors.Tensors(golden), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))


def test_long_texts_are_read_whole(loaded):
  ids, mask = loaded.tokenize('cat ' * 700)
  assert mask.sum() == 701 and ids.shape == (1, 704)


def change_config(folder, **values):
  shutil.copytree(GOLDEN / 't5', folder, dirs_exist_ok=True)
  path = folder / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
  return folder


def test_an_encoder_alone_reads_and_does_not_write(tmp_path):
  folder = change_config(tmp_path, architectures=['T5EncoderModel'])
  source = tensors.Tensors(folder)
  held = {
    name: source.read(name)
    for name in source.names
    if not name.startswith('decoder')
  }
  # As some older files name it.
  held['encoder.embed_tokens.weight'] = held.pop('shared.weight')
  tensors.write(folder, held.items())
  alone, whole = pretrained.load(folder), pretrained.load(GOLDEN / 't5')
  close(alone.encode_text(TEXTS), whole.encode_text(TEXTS))
  with pytest.raises(ValueError, match='writes nothing; open a T5For'):
    alone.generate(TEXTS)


def test_a_base_model_with_a_tied_head_is_a_whole_one(tmp_path):
  base = pretrained.load(change_config(tmp_path, architectures=['T5Model']))
  whole = pretrained.load(GOLDEN / 't5')
  assert base.module == whole.module and base.module.decoder.tied
  jax.tree.map(np.testing.assert_array_equal, base.params, whole.params)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'architectures': ['T5Stack']}, r"architectures is \['T5Stack'\]"),
    ({'tie_word_embeddings': False}, r'lm_head\.weight .* is missing'),
    ({'feed_forward_proj': 'mish'}, "feed_forward_proj is 'mish'"),
    ({'feed_forward_proj': 'twice-relu'}, "or one after 'gated-'"),
    ({'dense_act_fn': 'gelu'}, "dense_act_fn is 'gelu'"),
    ({'d_kv': 4}, r'SelfAttention.q.weight is \[15, 12\], not \[12, 12\]'),
    ({'relative_attention_num_buckets': 6}, r'_bias.weight is \[8, 3\]'),
    ({'num_decoder_layers': 1}, r'decoder.block.1.* is left over'),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, values, message):
  with pytest.raises(ValueError, match=message):
    pretrained.load(change_config(tmp_path, **values))


FLAN = {
  'feed_forward_proj': 'gated-gelu',
  'tie_word_embeddings': False,
  'separate_head': True,
}
# Parameters of the published checkpoints.
SIZES = {
  'small': ((512, 2048, 6, 8), {}, 60_506_624),
  'base': ((768, 3072, 12, 12), {}, 222_903_552),
  'large': ((1024, 4096, 24, 16), {}, 737_668_096),
  'Flan base': ((768, 2048, 12, 12), FLAN, 247_577_856),
  'Flan xl': ((2048, 5120, 24, 32), FLAN, 2_849_757_184),
}
_FIELDS = ('d_model', 'd_ff', 'num_layers', 'num_heads')


@pytest.mark.parametrize('name', SIZES)
def test_published_sizes(name):
  sizes, settings, number = SIZES[name]
  config = {**dict(zip(_FIELDS, sizes, strict=True)), **settings}
  shapes = checkpoint.shapes(t5.module(config), t5.inputs(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == number
