"""Cases of the contract of tasks that make tokens of images or sounds."""

import numpy as np

STACK = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_dim': 11}
STACK |= {'block': {'attention_bias': ('query', 'value', 'out')}}
CODEC = {'name': 'autoencoder', 'width': 4, 'groups': 2, 'num_blocks': 1}
CODEC |= {'multipliers': (1,), 'patch_size': 3, 'middle_attention': False}
JUDGE = {'name': 'patch', 'width': 4, 'num_layers': 1, 'groups': 2}
VQ = {'name': 'vq', 'size': 7, 'channels': 3, 'update': 'gradient'}
MASKGIT = {
  'name': 'maskgit',
  **STACK,
  'text': {'name': 'transformer', **STACK},
  'autoencoder': {**CODEC, 'codebook': {'name': 'fsq', 'levels': (3, 4)}},
}
JANUS = {
  'name': 'image_first',
  'vision': {'name': 'vit', 'patch_size': 3, **STACK},
  'decoder': {
    'name': 'text',
    **STACK,
    'cross_attention': False,
    'positions': 'none',
  },
  'image_codes': {'name': 'token_codes', 'width': 8, 'mlp_dim': 7, 'size': 12},
  'autoencoder': MASKGIT['autoencoder'],
}
SOUND_CODEC = {
  'name': 'sound_autoencoder',
  'layout': {'width': 4, 'ratios': (3, 2), 'lstm_layers': 1, 'causal': False},
  'codebook': {**VQ, 'size': 5},
}
SOUND = {'kind': 'sound', 'rate': 100, 'seconds': 0.12}
SPEAKER = {
  **{k: JANUS[k] for k in ('name', 'vision', 'decoder')},
  'sound_codes': {**JANUS['image_codes'], 'size': 5},
  'sound_autoencoder': SOUND_CODEC,
}
# Settings of the task, the model, and which of its parameters stay.
CASES = {
  'draw_tokens': ({'drop_condition': 0.5}, MASKGIT, ('autoencoder',)),
  # Captions train what reads images.
  'generate_image': (
    {'drop_condition': 0.5},
    JANUS,
    ('autoencoder', 'vision'),
  ),
  'generate_sound': (
    {'drop_condition': 0.5},
    SPEAKER,
    ('sound_autoencoder', 'vision'),
  ),
  'reconstruct': (
    {'distance': 'squared', 'adversarial': 0.5, 'adversarial_start': 2},
    {**CODEC, 'codebook': VQ, 'discriminator': JUDGE},
    (),
  ),
  'reconstruct_sound': ({'spectral': 0.5}, SOUND_CODEC, ()),
}


def make_sounds(number):
  """Arrays of sounds of several lengths."""
  mask = np.arange(12)[None] < np.linspace(12, 7, number).astype(int)[:, None]
  samples = np.random.default_rng(1).normal(size=(number, 12))
  return {
    'sound': np.where(mask, samples, 0).astype(np.float32),
    'sound_mask': mask,
  }
