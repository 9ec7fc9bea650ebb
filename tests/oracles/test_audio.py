"""Audio models here equal those of transformers."""

import functools
import json

import ctranslate2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from transformers import audio_utils

from mmjax import pretrained
from mmjax.pretrained import preprocess_audio
from tests.oracles import harness

EOS, START, ENGLISH, GERMAN, TRANSLATE, TRANSCRIBE, SILENT = range(90, 97)
SPECIAL = {
  'vocab_size': 99,
  'decoder_start_token_id': START,
  'bos_token_id': EOS,
  'eos_token_id': EOS,
  'pad_token_id': EOS,
}
CONFIGS = {
  'odd': {
    'd_model': 24, 'num_mel_bins': 7, 'max_source_positions': 11,
    'max_target_positions': 40, 'encoder_layers': 2, 'decoder_layers': 3,
    'encoder_attention_heads': 3, 'decoder_attention_heads': 4,
    'encoder_ffn_dim': 40, 'decoder_ffn_dim': 28,
  },
  'untied': {
    'd_model': 20, 'num_mel_bins': 12, 'max_source_positions': 8,
    'max_target_positions': 33, 'encoder_layers': 3, 'decoder_layers': 1,
    'encoder_attention_heads': 2, 'decoder_attention_heads': 1,
    'encoder_ffn_dim': 17, 'decoder_ffn_dim': 52,
    'activation_function': 'gelu_new', 'tie_word_embeddings': False,
  },
  'relu': {
    'd_model': 30, 'num_mel_bins': 5, 'max_source_positions': 13,
    'max_target_positions': 29, 'encoder_layers': 1, 'decoder_layers': 2,
    'encoder_attention_heads': 5, 'decoder_attention_heads': 3,
    'encoder_ffn_dim': 24, 'decoder_ffn_dim': 36,
    'activation_function': 'relu',
  },
  'bare': {
    'd_model': 12, 'num_mel_bins': 4, 'max_source_positions': 6,
    'max_target_positions': 26, 'encoder_layers': 2, 'decoder_layers': 2,
    'encoder_attention_heads': 6, 'decoder_attention_heads': 2,
    'encoder_ffn_dim': 20, 'decoder_ffn_dim': 18,
  },
}  # fmt: skip
WRITING = [name for name in CONFIGS if name != 'bare']
MANY = {
  'is_multilingual': True,
  'lang_to_id': {'<|en|>': ENGLISH, '<|de|>': GERMAN},
  'task_to_id': {'translate': TRANSLATE, 'transcribe': TRANSCRIBE},
  'no_timestamps_token_id': SILENT,
  'suppress_tokens': [1, 2, 7, 8, 50, 97, 98],
  'begin_suppress_tokens': [20, EOS],
}
ONE = {
  'is_multilingual': False,
  'no_timestamps_token_id': SILENT,
  'suppress_tokens': [1, 2, 7, 8, 50, 97, 98],
  'begin_suppress_tokens': [20, EOS],
  'forced_decoder_ids': [[1, SILENT]],
}


def original(name):
  torch.manual_seed(0)
  config = transformers.WhisperConfig(**SPECIAL, **CONFIGS[name])
  kind = transformers.WhisperForConditionalGeneration
  if name == 'bare':
    kind = transformers.WhisperModel
  model = harness.randomise(kind(config))
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.mul_(2)
  return model


@pytest.fixture(scope='module', params=CONFIGS)
def pair(request, tmp_path_factory):
  model = original(request.param)
  folder = tmp_path_factory.mktemp(request.param)
  return model, harness.load_saved(model, folder)


def batch(config):
  """What each of the two reads; the texts have padding."""
  rng = np.random.default_rng(0)
  frames = 2 * config.max_source_positions
  spectrogram = rng.normal(size=(3, frames, config.num_mel_bins))
  spectrogram = spectrogram.astype(np.float32)
  length = config.max_target_positions // 2
  ids = rng.integers(3, 90, (3, length))
  mask = np.arange(length)[None] < np.asarray([length, 5, 2])[:, None]
  ids = np.where(mask, ids, EOS)
  theirs = {
    'input_features': torch.tensor(spectrogram).permute(0, 2, 1),
    'decoder_input_ids': torch.tensor(ids),
    'decoder_attention_mask': torch.tensor(mask).long(),
  }
  ours = {
    'spectrogram': jnp.asarray(spectrogram),
    # The last token is not read.
    'text': jnp.pad(jnp.asarray(ids), ((0, 0), (0, 1))),
    'text_mask': jnp.pad(jnp.asarray(mask), ((0, 0), (0, 1))),
  }
  return theirs, ours, mask


def their_logits(model, theirs):
  out = model(**theirs)
  if hasattr(out, 'logits'):
    return out.logits, out.encoder_last_hidden_state
  logits = out.last_hidden_state @ model.decoder.embed_tokens.weight.T
  return logits, out.encoder_last_hidden_state


def test_outputs_agree(pair):
  model, loaded = pair
  theirs, ours, mask = batch(model.config)
  with torch.no_grad():
    want, encoded = their_logits(model, theirs)
  apply = functools.partial(loaded.module.apply, train=False)
  got = jax.jit(apply)({'params': loaded.params}, ours)['transcript_logits']
  harness.check_close(np.asarray(got)[mask], want.numpy()[mask])
  tokens = loaded.jit_method('encode_audio')(loaded.params, ours['spectrogram'])
  harness.check_close(tokens.values, encoded.numpy())


def test_gradients_agree(pair):
  model, loaded = pair
  theirs, ours, mask = batch(model.config)

  def loss(params):
    out = loaded.module.apply({'params': params}, ours, train=False)
    logits = jnp.where(mask[:, :, None], out['transcript_logits'], 0)
    return jnp.mean(logits**2)

  def their_loss(model):
    logits, _ = their_logits(model, theirs)
    return torch.where(torch.tensor(mask)[:, :, None], logits, 0).pow(2).mean()

  harness.check_gradients(model, loaded, their_loss, loss)


def test_what_is_saved_loads_there(pair, tmp_path):
  harness.check_saved(*pair, tmp_path)


def writer(name, settings, folder):
  """A recogniser, there and here, whose texts vary."""
  model = original(name)
  torch.manual_seed(1)
  with torch.no_grad():
    for path, parameter in model.named_parameters():
      if 'encoder.' in path:
        continue
      if parameter.ndim == 1:
        parameter.fill_(1.0 if path.endswith('norm.weight') else 0.0)
      else:
        scale = 2 / parameter.shape[-1] ** 0.5
        parameter.copy_(torch.randn(parameter.shape) * scale)
    model.model.decoder.embed_positions.weight.mul_(3)
  for field, value in settings.items():
    setattr(model.generation_config, field, value)
  return model, harness.load_saved(model, folder)


@pytest.fixture(scope='module', params=WRITING)
def writers(request, tmp_path_factory):
  """One of many languages."""
  return writer(request.param, MANY, tmp_path_factory.mktemp(request.param))


def generate_greedily(loaded, spectrogram, prompts):
  """Ids that we write, as lists without the end."""
  generation = loaded.generation
  written = loaded.jit_method(
    'generate',
    text_kind='transcript',
    max_new_tokens=20,
    eos_id=EOS,
    pad_id=EOS,
    suppress=tuple(generation['suppress_tokens']),
    suppress_first=tuple(generation['begin_suppress_tokens']),
  )(
    loaded.params,
    {'spectrogram': spectrogram, 'decoder_prompt': np.asarray(prompts)},
  )
  return remove_ids(np.asarray(written.tokens).tolist(), [EOS])


def generate_theirs_greedily(model, features, **settings):
  out = model.generate(
    features, max_new_tokens=20, do_sample=False, num_beams=1, **settings
  )
  return remove_ids(out.tolist(), [EOS])


def remove_ids(rows, ids):
  return [[token for token in row if token not in ids] for row in rows]


def check_varied(rows):
  assert len({token for row in rows for token in row}) > 2
  assert rows[0] != rows[2]


@pytest.mark.parametrize(
  'language, task', [('de', 'translate'), ('en', 'transcribe'), ('de', None)]
)
def test_the_same_is_written(writers, language, task):
  model, loaded = writers
  theirs, ours, _ = batch(model.config)
  settings = {'language': language} | ({'task': task} if task else {})
  want = generate_theirs_greedily(model, theirs['input_features'], **settings)
  prompt = loaded.prompt(language, task)
  got = generate_greedily(loaded, ours['spectrogram'], [prompt] * 3)
  assert got == want
  check_varied(got)


def test_languages_are_heard_alike(writers):
  model, loaded = writers
  theirs, ours, _ = batch(model.config)
  want = model.detect_language(theirs['input_features']).tolist()
  audio = loaded.jit_method('encode_audio')(loaded.params, ours['spectrogram'])
  logits = loaded.jit_method('logits_after')(
    loaded.params, np.full((3, 1), START), audio
  )
  ids = np.asarray(list(loaded.languages.values()))
  assert ids[np.asarray(logits)[:, ids].argmax(-1)].tolist() == want
  heard = generate_theirs_greedily(
    model, theirs['input_features'], task='translate'
  )
  codes = {token: code for code, token in loaded.languages.items()}
  prompts = [loaded.prompt(codes[token], 'translate') for token in want]
  assert generate_greedily(loaded, ours['spectrogram'], prompts) == heard


@pytest.mark.parametrize('name', WRITING)
def test_a_model_of_one_language_writes_the_same(name, tmp_path):
  model, loaded = writer(name, ONE, tmp_path)
  theirs, ours, _ = batch(model.config)
  want = generate_theirs_greedily(model, theirs['input_features'])
  got = generate_greedily(loaded, ours['spectrogram'], [loaded.prompt()] * 3)
  assert got == want
  check_varied(got)


def sounds():
  """Noise, a rising tone, speech-like pulses; none is silent anywhere."""
  rng = np.random.default_rng(0)
  time = np.arange(30_000) / 16_000
  noise = rng.normal(0, 0.1, 30_000)
  pulses = np.sin(2 * np.pi * 120 * time) ** 31 * np.sin(2 * np.pi * 3 * time)
  return {
    'noise': noise,
    'short': noise[:5000],
    'pulses': pulses + 0.05 * noise,
    'tone': np.sin(2 * np.pi * (200 + 900 * time) * time),
    'silence': np.zeros(400),
    'too long': rng.normal(0, 0.1, 500_000),
  }


@pytest.mark.parametrize('num_mels', [80, 128])
@pytest.mark.parametrize('name', sounds())
def test_sounds_are_prepared_alike(num_mels, name, tmp_path):
  extractor = transformers.WhisperFeatureExtractor(feature_size=num_mels)
  extractor.save_pretrained(tmp_path)
  config = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  ours = preprocess_audio.AudioPreprocessor.from_config(config)
  sound = sounds()[name].astype(np.float32)
  want = extractor(sound, sampling_rate=16_000, return_tensors='np')
  got = ours.spectrogram(ours.cut_windows(ours.read_samples(sound))[:1])
  # Between the lines of pure tones there is rounding alone: transformers' two
  # ways, NumPy's and PyTorch's, differ by 7e-5 there.
  atol = 1e-4 if name in ('tone', 'pulses') else 1e-5
  harness.close(got, in_float64(extractor, sound), atol=atol)
  # Both are rounded, so noise differs by up to twice as much: on some CPUs,
  # transformers is 0.7e-5 from the result in float64 and mmjax 0.6e-5.
  want = want['input_features'].transpose(0, 2, 1)
  harness.close(got, want, atol=max(atol, 2e-5))


def in_float64(extractor, sound):
  """What Whisper's feature extractor computes, without its rounding."""
  padded = np.zeros(extractor.n_samples)
  padded[: len(sound)] = sound[: extractor.n_samples]
  power = audio_utils.spectrogram(
    padded,
    audio_utils.window_function(extractor.n_fft, 'hann'),
    frame_length=extractor.n_fft,
    hop_length=extractor.hop_length,
    power=2.0,
    mel_filters=extractor.mel_filters,
    dtype=np.float64,
  )
  logs = np.log10(np.maximum(power[:, :-1], 1e-10))
  return (np.maximum(logs, logs.max() - 8.0).T[None] + 4.0) / 4.0


def test_other_sizes_of_windows_are_prepared_alike(tmp_path):
  extractor = transformers.WhisperFeatureExtractor(
    feature_size=20, hop_length=100, n_fft=256, chunk_length=2
  )
  extractor.save_pretrained(tmp_path)
  config = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  ours = preprocess_audio.AudioPreprocessor.from_config(config)
  sound = sounds()['noise'].astype(np.float32)
  want = extractor(sound, sampling_rate=16_000, return_tensors='np')
  got = ours.spectrogram(ours.cut_windows(sound))
  harness.close(got, want['input_features'].transpose(0, 2, 1), atol=1e-5)


def convert_to_ctranslate2(model, folder, quantization):
  """What CTranslate2's converter makes of a model."""
  loader = ctranslate2.converters.transformers.WhisperLoader()
  spec = loader.get_model_spec(model)
  vocabulary = [f'word{i}' for i in range(model.config.vocab_size)]
  spec.register_vocabulary(vocabulary)
  spec.config.suppress_ids = MANY['suppress_tokens']
  spec.config.suppress_ids_begin = MANY['begin_suppress_tokens']
  spec.config.lang_ids = [ENGLISH, GERMAN]
  spec.validate()
  spec.optimize(quantization)
  folder.mkdir()
  spec.save(str(folder))
  tokens = {
    '<|endoftext|>': EOS,
    '<|startoftranscript|>': START,
    '<|en|>': ENGLISH,
    '<|de|>': GERMAN,
    '<|translate|>': TRANSLATE,
    '<|transcribe|>': TRANSCRIBE,
    '<|notimestamps|>': SILENT,
  }
  added = [{'content': token, 'id': i} for token, i in tokens.items()]
  (folder / 'tokenizer.json').write_text(json.dumps({'added_tokens': added}))
  return pretrained.load(folder)


@pytest.mark.parametrize('name', ['odd', 'untied'])
@pytest.mark.parametrize(
  'quantization', [None, 'float16', 'bfloat16', 'int8', 'int16']
)
def test_what_ctranslate2_keeps_is_the_same(name, quantization, tmp_path):
  model = original(name)
  model.config.activation_function = 'gelu'
  model.save_pretrained(tmp_path / 'hf')
  want = pretrained.load(tmp_path / 'hf')
  got = convert_to_ctranslate2(model, tmp_path / 'ct2', quantization)
  assert got.module == want.module

  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(want.params))
  # Half a step: a row's largest number is 127 steps, a matrix's 1024.
  half = {'int8': largest / 254, 'int16': largest / 2048}

  def check(mine, theirs):
    mine, theirs = np.asarray(mine), np.asarray(theirs)
    if quantization in half:
      atol = 1.01 * half[quantization]
      np.testing.assert_allclose(mine, theirs, rtol=0, atol=atol)
    else:
      stored = theirs.astype(quantization or np.float32)
      np.testing.assert_array_equal(mine, stored)

  jax.tree.map(check, got.params, want.params)
  folder = tmp_path / 'saved'
  pretrained.save(got, folder)
  kind = type(model)
  again, info = kind.from_pretrained(folder, output_loading_info=True)
  assert not any(info.values()), info
  assert again.generation_config.suppress_tokens == MANY['suppress_tokens']
  assert pretrained.load(folder).prompt() == got.prompt()
