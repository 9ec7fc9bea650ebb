"""Greedy decoding and beam search, by mmjax and by transformers.

Both read the same random weights, of a Qwen2 or of a LLaVA with an image in
each prompt, so that they write equal texts.
"""

import pathlib
import tempfile
from typing import Any

import numpy as np

from benchmarks.sides.work import Work

_PROMPT, _NEW = 64, 64
_VOCABULARY = 32_000
# The placeholder of a LLaVA's image tokens.
_IMAGE = _VOCABULARY - 1
_PATCH = 14


def make_mmjax(batch: int, beams: int, image: bool, tiny: bool) -> Work:
  """mmjax's `generate`.

  Args:
    batch: number of prompts.
    beams: number of beams; 1 for greedy decoding.
    image: whether prompts have an image before their words.
    tiny: whether the model is tiny.
  """
  import jax
  import jax.numpy as jnp

  import mmjax

  with tempfile.TemporaryDirectory() as folder:
    _write(pathlib.Path(folder), image, tiny)
    model = mmjax.load(folder)
  ids = jnp.asarray(_draw_prompts(batch, image, tiny))
  inputs = {'text': ids, 'text_mask': jnp.ones(ids.shape, bool)}
  if image:
    inputs['image'] = jnp.asarray(_draw_images(batch, tiny))[:, None]
  new = 8 if tiny else _NEW
  chosen = {'beam_size': beams} if beams > 1 else {'min_new_tokens': new}
  settings = model.generation_arguments(new, ids.shape[1], chosen)
  program = model.jit_method('generate', **settings)

  def generate():
    key = jax.random.key(0)
    written = program(model.params, inputs, rng=key)
    return jax.block_until_ready(written.tokens)

  parameters = sum(leaf.size for leaf in jax.tree.leaves(model.params))
  return Work(
    generate,
    {'parameters': parameters, 'output': np.asarray(generate()).tolist()},
  )


def make_transformers(batch: int, beams: int, image: bool, tiny: bool) -> Work:
  """transformers' `generate`."""
  import torch
  import transformers

  with tempfile.TemporaryDirectory() as folder:
    _write(pathlib.Path(folder), image, tiny)
    make = (
      transformers.LlavaForConditionalGeneration
      if image
      else transformers.AutoModelForCausalLM
    )
    model = make.from_pretrained(folder).eval()
  prompts = torch.tensor(_draw_prompts(batch, image, tiny))
  pixels = {}
  if image:
    images = torch.tensor(_draw_images(batch, tiny))
    pixels = {'pixel_values': images.permute(0, 3, 1, 2)}
  new = 8 if tiny else _NEW
  parameters = sum(p.numel() for p in model.parameters())

  @torch.inference_mode()
  def generate():
    return model.generate(
      prompts,
      **pixels,
      max_new_tokens=new,
      min_new_tokens=new,
      num_beams=beams,
      do_sample=False,
    )

  ids = generate()[:, prompts.shape[1] :]
  return Work(generate, {'parameters': parameters, 'output': ids.tolist()})


def _write(folder: pathlib.Path, image: bool, tiny: bool) -> None:
  """Writes a model of random parameters, tens of millions of them or few."""
  import torch
  import transformers

  torch.manual_seed(0)
  config = _make_llava(tiny) if image else _make_qwen2(tiny)
  make = (
    transformers.LlavaForConditionalGeneration
    if image
    else transformers.Qwen2ForCausalLM
  )
  model = make(config)
  if image:
    # Of a random decoder the words would outweigh the image.
    model.model.multi_modal_projector.linear_2.weight.data *= 50
  model.save_pretrained(folder)


def _make_qwen2(tiny: bool) -> Any:
  """Qwen2 of 40 million parameters."""
  import transformers

  return transformers.Qwen2Config(**_make_decoder(tiny))


def _make_llava(tiny: bool) -> Any:
  """LLaVA: a CLIP of 11 million parameters before a decoder of 40 million."""
  import transformers

  width, depth, heads = (64, 2, 2) if tiny else (384, 6, 6)
  vision = transformers.CLIPVisionConfig(
    hidden_size=width,
    intermediate_size=4 * width,
    num_hidden_layers=depth,
    num_attention_heads=heads,
    image_size=_find_side(tiny),
    patch_size=_PATCH,
  )
  return transformers.LlavaConfig(
    vision_config=vision,
    text_config=transformers.LlamaConfig(**_make_decoder(tiny)),
    image_token_index=_IMAGE,
    tie_word_embeddings=True,
  )


def _make_decoder(tiny: bool) -> dict[str, Any]:
  """Settings of a decoder, by transformers' names."""
  sizes = (64, 128, 2, 2) if tiny else (512, 1408, 8, 8)
  width, mlp_dim, depth, heads = sizes
  return {
    'vocab_size': _VOCABULARY,
    'hidden_size': width,
    'intermediate_size': mlp_dim,
    'num_hidden_layers': depth,
    'num_attention_heads': heads,
    'num_key_value_heads': heads // 2,
    'max_position_embeddings': 512,
    'tie_word_embeddings': True,
    'eos_token_id': None,
    'bos_token_id': None,
    'pad_token_id': 0,
  }


def _find_side(tiny: bool) -> int:
  """Pixels of an image's side."""
  return 2 * _PATCH if tiny else 16 * _PATCH


def _draw_prompts(batch: int, image: bool, tiny: bool) -> np.ndarray:
  """Random ids [batch, 64], behind the placeholders of an image if any."""
  drawn = np.random.default_rng(0).integers(3, _IMAGE, (batch, _PROMPT))
  number = (_find_side(tiny) // _PATCH) ** 2 if image else 0
  seen = np.full((batch, number), _IMAGE)
  return np.concatenate([seen, drawn], axis=1).astype(np.int64)


def _draw_images(batch: int, tiny: bool) -> np.ndarray:
  """Noise [batch, H, W, 3]."""
  side = _find_side(tiny)
  drawn = np.random.default_rng(0).normal(size=(batch, side, side, 3))
  return drawn.astype(np.float32)
