"""Writes small audio models and what transformers computes with them.

They keep a core of the comparisons running where transformers isn't installed.
Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden_audio.py
"""

import json
import shutil
import string
from pathlib import Path

import ctranslate2
import numpy as np
import tokenizers
import torch
import transformers

GOLDEN = Path(__file__).parent / 'golden'
SPECIAL = [
  '<|endoftext|>',
  '<|startoftranscript|>',
  '<|en|>',
  '<|de|>',
  '<|translate|>',
  '<|transcribe|>',
  '<|notimestamps|>',
]
WORDS = list(string.ascii_lowercase)
RATE, SECONDS = 16_000, 1


def whisper() -> None:
  """A Whisper of two languages that hears one second at a time."""
  folder = GOLDEN / 'whisper'
  ids = {word: i for i, word in enumerate([*WORDS, *SPECIAL])}
  config = transformers.WhisperConfig(
    vocab_size=len(ids) + 2,  # Two times.
    num_mel_bins=10,
    d_model=12,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=3,
    decoder_attention_heads=2,
    encoder_ffn_dim=20,
    decoder_ffn_dim=18,
    max_source_positions=50,
    max_target_positions=16,
    decoder_start_token_id=ids['<|startoftranscript|>'],
    bos_token_id=ids['<|endoftext|>'],
    eos_token_id=ids['<|endoftext|>'],
    pad_token_id=ids['<|endoftext|>'],
  )
  torch.manual_seed(6)
  model = transformers.WhisperForConditionalGeneration(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      scale = 1.5 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.2
      parameter.copy_(torch.randn(parameter.shape) * scale)
    model.model.decoder.embed_positions.weight.mul_(3)
    for layer in model.model.decoder.layers:
      layer.encoder_attn.out_proj.weight.mul_(4)
  generation = model.generation_config
  generation.is_multilingual = True
  generation.lang_to_id = {name: ids[name] for name in ('<|en|>', '<|de|>')}
  generation.task_to_id = {
    name: ids[f'<|{name}|>'] for name in ('translate', 'transcribe')
  }
  generation.no_timestamps_token_id = ids['<|notimestamps|>']
  generation.suppress_tokens = [ids['a'], ids['<|notimestamps|>']]
  generation.begin_suppress_tokens = [ids['b'], ids['<|endoftext|>']]
  extractor = transformers.WhisperFeatureExtractor(
    feature_size=10, chunk_length=SECONDS
  )
  shutil.rmtree(folder, ignore_errors=True)
  model.save_pretrained(folder)
  extractor.save_pretrained(folder)
  tokenizer = _tokenizer(ids)
  tokenizer.save(str(folder / 'tokenizer.json'))

  sounds = _sounds()
  features = extractor(
    [sound / np.float32(32768) for sound in sounds],
    sampling_rate=RATE,
    return_tensors='pt',
  )['input_features']
  prompt = [ids[token] for token in (SPECIAL[1], '<|de|>', '<|translate|>')]
  prompt.append(ids['<|notimestamps|>'])
  text = torch.tensor([[*prompt, 5, 9, 2], [*prompt, 7, 1, 3]])
  with torch.no_grad():
    out = model(input_features=features, decoder_input_ids=text)
    written = model.generate(
      features, language='de', task='translate', max_new_tokens=12
    )
    heard = model.detect_language(features)
  texts = tokenizer.decode_batch(written.tolist(), skip_special_tokens=True)
  np.savez_compressed(
    folder / 'expected.npz',
    first=sounds[0],
    second=sounds[1],
    features=features.numpy().transpose(0, 2, 1),
    encoded=out.encoder_last_hidden_state.numpy(),
    text=text.numpy(),
    logits=out.logits.numpy(),
  )
  names = {number: name for name, number in ids.items()}
  languages = [names[number].strip('<|>') for number in heard.tolist()]
  (folder / 'expected.json').write_text(
    json.dumps({'texts': texts, 'languages': languages}, indent=2)
  )
  for path in folder.iterdir():
    path.chmod(0o644)
  _ctranslated(model, folder / 'tokenizer.json')


def _ctranslated(model, tokenizer: Path) -> None:
  """The same Whisper as CTranslate2 keeps it, with matrices of 8 bits."""
  folder = GOLDEN / 'whisper_ctranslate2'
  loader = ctranslate2.converters.transformers.WhisperLoader()
  spec = loader.get_model_spec(model)
  spec.register_vocabulary([str(i) for i in range(model.config.vocab_size)])
  spec.config.suppress_ids = model.generation_config.suppress_tokens
  spec.config.suppress_ids_begin = model.generation_config.begin_suppress_tokens
  spec.validate()
  spec.optimize('int8')
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir()
  spec.save(str(folder))
  shutil.copy(tokenizer, folder)


def audio_spectrogram_transformer() -> None:
  """AST with three classes."""
  folder = GOLDEN / 'audio_spectrogram_transformer'
  config = transformers.ASTConfig(
    hidden_size=12,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=20,
    patch_size=6,
    frequency_stride=4,
    time_stride=5,
    max_length=24,
    num_mel_bins=16,
    id2label={0: 'dog', 1: 'cat', 2: 'rain'},
  )
  torch.manual_seed(0)
  model = transformers.ASTForAudioClassification(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.copy_(torch.randn(parameter.shape) * 0.3)
  extractor = transformers.ASTFeatureExtractor(num_mel_bins=16, max_length=24)
  shutil.rmtree(folder, ignore_errors=True)
  model.save_pretrained(folder)
  extractor.save_pretrained(folder)
  sounds = _sounds()
  features = extractor(
    [sound / np.float32(32768) for sound in sounds],
    sampling_rate=RATE,
    return_tensors='pt',
  )['input_values']
  with torch.no_grad():
    logits = model(features).logits
    out = model.audio_spectrogram_transformer(features)
  np.savez_compressed(
    folder / 'expected.npz',
    first=sounds[0],
    second=sounds[1],
    features=features.numpy(),
    encoded=out.last_hidden_state.numpy(),
    pooled=out.pooler_output.numpy(),
    logits=logits.numpy(),
  )
  for path in folder.iterdir():
    path.chmod(0o644)


def qwen2_audio() -> None:
  """A Qwen2-Audio that hears one second at a time."""
  folder = GOLDEN / 'qwen2_audio'
  marks = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|AUDIO|>']
  marks += ['<|audio_bos|>', '<|audio_eos|>', '?']
  ids = {word: i for i, word in enumerate([*marks, *WORDS])}
  config = transformers.Qwen2AudioConfig(
    text_config=transformers.Qwen2Config(
      vocab_size=len(ids),
      hidden_size=16,
      intermediate_size=20,
      num_hidden_layers=2,
      num_attention_heads=2,
      num_key_value_heads=1,
      max_position_embeddings=128,
      bos_token_id=0,
      eos_token_id=0,
    ),
    audio_config=transformers.Qwen2AudioEncoderConfig(
      num_mel_bins=10,
      d_model=12,
      encoder_layers=2,
      encoder_attention_heads=3,
      encoder_ffn_dim=20,
      max_source_positions=50,
    ),
    audio_token_index=ids['<|AUDIO|>'],
  )
  torch.manual_seed(0)
  model = transformers.Qwen2AudioForConditionalGeneration(config).eval()
  with torch.no_grad():
    for key, parameter in model.named_parameters():
      # Blocks outweigh words, so that what is written varies.
      words = 'embed_tokens' in key or 'lm_head' in key
      size = 1.0 if parameter.ndim > 1 and not words else 0.5
      size = 0.1 if key.endswith('bias') else size
      parameter.copy_(torch.randn(parameter.shape) * size)
  model.generation_config.eos_token_id = 0
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(ids, unk_token='?')
  )
  tokenizer.add_special_tokens(marks)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  extractor = transformers.WhisperFeatureExtractor(
    feature_size=10, chunk_length=SECONDS, return_attention_mask=True
  )
  processor = transformers.Qwen2AudioProcessor(
    extractor,
    transformers.PreTrainedTokenizerFast(
      tokenizer_object=tokenizer, pad_token=marks[0], eos_token=marks[0]
    ),
  )
  shutil.rmtree(folder, ignore_errors=True)
  model.save_pretrained(folder)
  extractor.save_pretrained(folder)
  tokenizer.save(str(folder / 'tokenizer.json'))
  (folder / 'chat_template.jinja').write_text(processor.chat_template)
  sounds = _sounds()
  heard = '<|audio_bos|><|AUDIO|><|audio_eos|>'
  inputs = processor(
    text=[f'{heard} a b', f'c {heard} a'],
    audio=[sound / np.float32(32768) for sound in sounds],
    sampling_rate=RATE,
    return_tensors='pt',
    padding=True,
    padding_side='left',
  )
  with torch.no_grad():
    logits = model(**inputs).logits.numpy()
  written = model.generate(
    **inputs, max_new_tokens=12, do_sample=False, pad_token_id=0
  )[:, inputs['input_ids'].shape[1] :]
  np.savez_compressed(
    folder / 'expected.npz',
    first=sounds[0],
    second=sounds[1],
    logits=logits,
    mask=inputs['attention_mask'].numpy(),
    texts=processor.batch_decode(written, skip_special_tokens=True),
  )
  for path in folder.iterdir():
    path.chmod(0o644)


def encodec() -> None:
  """An EnCodec of 3 codebooks of 16, with 100 steps a second."""
  folder = GOLDEN / 'encodec'
  config = transformers.EncodecConfig(
    target_bandwidths=[0.4, 1.2],
    sampling_rate=600,
    num_filters=2,
    hidden_size=5,
    upsampling_ratios=[3, 2],
    num_lstm_layers=1,
    codebook_size=16,
  )
  torch.manual_seed(0)
  model = transformers.EncodecModel(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.copy_(torch.randn(parameter.shape))
    for name, buffer in model.named_buffers():
      if 'codebook' in name:
        buffer.copy_(torch.randn(buffer.shape))
  extractor = transformers.EncodecFeatureExtractor(sampling_rate=600)
  shutil.rmtree(folder, ignore_errors=True)
  model.save_pretrained(folder)
  extractor.save_pretrained(folder)
  first, second = (sound[:300] for sound in _sounds())
  second = second[:77]
  inputs = extractor(
    [sound / np.float32(32768) for sound in (first, second)],
    sampling_rate=600,
    return_tensors='pt',
  )
  with torch.no_grad():
    ids = model.encode(**inputs, bandwidth=1.2).audio_codes
    decoded = model.decode(ids, [None]).audio_values[:, 0]
  np.savez_compressed(
    folder / 'expected.npz',
    first=first,
    second=second,
    ids=ids[0].numpy(),
    decoded=decoded.numpy(),
  )
  for path in folder.iterdir():
    path.chmod(0o644)


def _sounds() -> list[np.ndarray]:
  """Noise of 16 bits, as a .wav file holds it."""
  rng = np.random.default_rng(0)
  return [
    np.round(rng.normal(0, 3000, size)).astype(np.int16)
    for size in (5000, 3000)
  ]


def _tokenizer(ids) -> tokenizers.Tokenizer:
  words = {word: ids[word] for word in WORDS}
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(words, unk_token='a')
  )
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  tokenizer.add_special_tokens(SPECIAL)
  return tokenizer


if __name__ == '__main__':
  whisper()
  audio_spectrogram_transformer()
  qwen2_audio()
  encodec()
