"""T5 here equals that of transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from transformers.models.t5 import modeling_t5

from mmjax import ops, pretrained
from tests.oracles import harness

IDS = {'vocab_size': 61, 'decoder_start_token_id': 0}
CONFIGS = {
  # As version 1.0: ReLU, one matrix for words and logits.
  'odd': {
    'd_model': 15, 'd_kv': 4, 'd_ff': 23, 'num_layers': 2, 'num_heads': 3,
    'relative_attention_num_buckets': 10,
    'relative_attention_max_distance': 9,
  },
  # As 1.1 and Flan-T5: gated, an output matrix of its own.
  'gated': {
    'd_model': 12, 'd_kv': 5, 'd_ff': 20, 'num_layers': 3,
    'num_decoder_layers': 2, 'num_heads': 5,
    'feed_forward_proj': 'gated-gelu', 'tie_word_embeddings': False,
    'layer_norm_epsilon': 1e-3,
  },
  # No published one has these: an unscaled tied head, another activation.
  'silu': {
    'd_model': 18, 'd_kv': 9, 'd_ff': 16, 'num_layers': 2,
    'num_decoder_layers': 1, 'num_heads': 1,
    'feed_forward_proj': 'gated-silu', 'tie_word_embeddings': False,
    'relative_attention_num_buckets': 8,
    'relative_attention_max_distance': 6,
  },
}  # fmt: skip
KINDS = {
  'writer': transformers.T5ForConditionalGeneration,
  'encoder': transformers.T5EncoderModel,
}
# Of the last norm; not all of them write much.
SEEDS = {'odd': 1, 'gated': 2, 'silu': 2}
LENGTHS = np.asarray([13, 7, 4])
EOS, PAD = 1, 0


def original(kind, name):
  torch.manual_seed(0)
  config = transformers.T5Config(**IDS, **CONFIGS[name])
  model = KINDS[kind](config)
  if kind == 'writer' and name == 'gated':
    untie(model)
  model = harness.randomise(model, 0.3)
  generator = torch.Generator().manual_seed(SEEDS[name])
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      # Positions must count, and blocks outweigh words.
      if 'relative_attention_bias' in name:
        parameter.mul_(3.0)
      elif 'final_layer_norm' in name:
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
      elif parameter.ndim > 1 and 'shared' not in name and 'lm' not in name:
        parameter.mul_(0.5 if name.endswith('.q.weight') else 1.5)
      elif parameter.ndim > 1:
        parameter[EOS] = 0.0  # Long texts.
        parameter.mul_(0.3 if 'lm_head' in name else 1.0)
  return model


def untie(model):
  """Gives a model an output matrix of its own, as its checkpoints have it."""
  drawn = torch.randn(model.lm_head.weight.shape)
  model.lm_head.weight = torch.nn.Parameter(drawn)
  model.all_tied_weights_keys.pop('lm_head.weight')


@pytest.fixture(
  scope='module', params=[(kind, name) for kind in KINDS for name in CONFIGS]
)
def case(request, tmp_path_factory):
  kind, name = request.param
  model = original(kind, name)
  folder = tmp_path_factory.mktemp(f'{kind}_{name}')
  return kind, model, harness.load_saved(model, folder)


def texts(seed=0, lengths=LENGTHS):
  mask = np.arange(lengths.max())[None] < lengths[:, None]
  ids = np.random.default_rng(seed).integers(2, 61, mask.shape)
  return np.where(mask, ids, PAD), mask


def theirs(kind):
  ids, mask = texts()
  given = {
    'input_ids': torch.tensor(ids),
    'attention_mask': torch.tensor(mask).long(),
  }
  if kind == 'writer':
    ids, mask = texts(1, LENGTHS[::-1])
    given['decoder_input_ids'] = torch.tensor(ids)
    given['decoder_attention_mask'] = torch.tensor(mask).long()
  return given


def ours(kind):
  """As a batch; an answer has one token more than what is read of it."""
  ids, mask = map(jnp.asarray, texts())
  if kind == 'encoder':
    return (ids, mask), mask
  answer, answer_mask = texts(1, LENGTHS[::-1])
  batch = {
    'question': ids,
    'question_mask': mask,
    'answer': jnp.pad(answer, ((0, 0), (0, 1))),
    'answer_mask': jnp.pad(answer_mask, ((0, 0), (0, 1))),
  }
  return (batch,), answer_mask


def outputs(kind, module, params, inputs):
  out = module.apply({'params': params}, *inputs, train=False)
  return out.values if kind == 'encoder' else out['answer_token_logits']


def their_outputs(kind, model):
  out = model(**theirs(kind))
  return out.last_hidden_state if kind == 'encoder' else out.logits


def test_outputs_agree(case):
  kind, model, loaded = case
  inputs, mask = ours(kind)
  mask = np.asarray(mask)
  with torch.no_grad():
    want = their_outputs(kind, model).numpy()
  got = jax.jit(lambda params: outputs(kind, loaded.module, params, inputs))(
    loaded.params
  )
  assert want[mask].std(axis=0).mean() > 0.1
  harness.check_close(np.asarray(got)[mask], want[mask])


def test_gradients_agree(case):
  kind, model, loaded = case
  inputs, mask = ours(kind)

  def loss(params):
    out = outputs(kind, loaded.module, params, inputs)
    return jnp.mean(out[np.asarray(mask)] ** 2)

  def their_loss(model):
    kept = torch.tensor(np.asarray(mask))
    return (their_outputs(kind, model)[kept] ** 2).mean()

  harness.check_gradients(model, loaded, their_loss, loss)


@pytest.mark.filterwarnings('ignore:The tied weights mapping')
def test_what_is_saved_loads_there(case, tmp_path):
  _, model, loaded = case
  harness.check_saved(model, loaded, tmp_path)


@pytest.mark.parametrize('name', CONFIGS)
def test_greedy_writing_agrees(name, tmp_path):
  model = original('writer', name)
  loaded = harness.load_saved(model, tmp_path)
  ids, mask = texts()
  want = model.generate(
    input_ids=torch.tensor(ids),
    attention_mask=torch.tensor(mask).long(),
    max_new_tokens=20,
    do_sample=False,
  )[:, 1:].numpy()
  program = loaded.jit_method(
    'generate', text_kind='answer', max_new_tokens=20, eos_id=EOS, pad_id=PAD
  )
  batch = {'question': jnp.asarray(ids), 'question_mask': jnp.asarray(mask)}
  got = np.asarray(program(loaded.params, batch).tokens)
  want = np.pad(want, ((0, 0), (0, 20 - want.shape[1])))
  np.testing.assert_array_equal(got, want)
  assert len(np.unique(got)) > 5


@pytest.mark.parametrize('both_ways', [True, False])
def test_buckets_agree(both_ways):
  distances = np.arange(-300, 301)
  for number, most in ((32, 128), (32, 20), (10, 9), (6, 200), (64, 257)):
    want = modeling_t5.T5Attention._relative_position_bucket(
      torch.tensor(distances), both_ways, number, most
    )
    got = ops.relative_buckets(
      jnp.asarray(distances), number, most, bidirectional=both_ways
    )
    np.testing.assert_array_equal(got, want)


def test_older_names_of_the_words_are_known(tmp_path):
  """With duplicates, and without the name that is written today."""
  model = original('encoder', 'odd')
  want = harness.load_saved(model, tmp_path).params
  held = {
    name: value.clone().contiguous()
    for name, value in model.state_dict().items()
  }
  for names in (held, [name for name in held if name != 'shared.weight']):
    safetensors.torch.save_file(
      {name: held[name] for name in names}, tmp_path / 'model.safetensors'
    )
    got = pretrained.load(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, got.params, want)


def test_texts_agree_with_the_published_tokenizers(tmp_path):
  """As their tokenizer of T5 writes itself: words, </s>, and <pad>."""
  words = ['<pad>', '</s>', '<unk>', '▁', '▁a', '▁red', '▁cat', 's', '.']
  vocabulary = [(word, -float(i)) for i, word in enumerate(words)]
  tokenizer = transformers.T5TokenizerFast(vocab=vocabulary, extra_ids=4)
  model = original('writer', 'odd')
  model.save_pretrained(tmp_path)
  tokenizer.save_pretrained(tmp_path)
  loaded = pretrained.load(tmp_path)
  texts = ['a red cat.', 'cats', 'a red red red cat']
  given = tokenizer(texts, return_tensors='pt', padding=True)
  ids, mask = loaded.tokenize(texts)
  length = given['input_ids'].shape[1]
  np.testing.assert_array_equal(ids[:, :length], given['input_ids'])
  np.testing.assert_array_equal(mask[:, :length], given['attention_mask'] > 0)
  written = model.generate(**given, max_new_tokens=9, do_sample=False)
  want = tokenizer.batch_decode(written, skip_special_tokens=True)
  assert loaded.generate(texts, max_new_tokens=9) == want
