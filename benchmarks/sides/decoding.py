"""Greedy decoding and beam search of one Qwen2, by mmjax and by transformers.

Both open the same folder of random weights, so that their texts are equal.
"""

import pathlib
import tempfile

import numpy as np

from benchmarks.sides.work import Work

_PROMPT, _NEW = 64, 64
_VOCABULARY = 32_000


def make_mmjax(batch: int, beams: int, tiny: bool) -> Work:
  """mmjax's `generate`.

  Args:
    batch: number of prompts.
    beams: number of beams; 1 for greedy decoding.
    tiny: whether the model is tiny.
  """
  import jax
  import jax.numpy as jnp

  import mmjax

  with tempfile.TemporaryDirectory() as folder:
    _write(pathlib.Path(folder), tiny)
    model = mmjax.load(folder)
  ids = jnp.asarray(_draw_prompts(batch))
  inputs = {'text': ids, 'text_mask': jnp.ones(ids.shape, bool)}
  new = 8 if tiny else _NEW
  chosen = {'beam_size': beams} if beams > 1 else {'min_new_tokens': new}
  settings = model.generation_arguments(new, _PROMPT, chosen)
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


def make_transformers(batch: int, beams: int, tiny: bool) -> Work:
  """transformers' `generate`."""
  import torch
  import transformers

  with tempfile.TemporaryDirectory() as folder:
    _write(pathlib.Path(folder), tiny)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
  prompts, new = torch.tensor(_draw_prompts(batch)), 8 if tiny else _NEW
  parameters = sum(p.numel() for p in model.parameters())

  @torch.inference_mode()
  def generate():
    return model.generate(
      prompts,
      max_new_tokens=new,
      min_new_tokens=new,
      num_beams=beams,
      do_sample=False,
    )

  ids = generate()[:, prompts.shape[1] :]
  return Work(generate, {'parameters': parameters, 'output': ids.tolist()})


def _write(folder: pathlib.Path, tiny: bool) -> None:
  """Writes a Qwen2 of 50 million random parameters, or a tiny one."""
  import torch
  import transformers

  torch.manual_seed(0)
  sizes = (64, 128, 2, 2) if tiny else (512, 1408, 8, 8)
  width, mlp_dim, depth, heads = sizes
  config = transformers.Qwen2Config(
    vocab_size=_VOCABULARY,
    hidden_size=width,
    intermediate_size=mlp_dim,
    num_hidden_layers=depth,
    num_attention_heads=heads,
    num_key_value_heads=heads // 2,
    max_position_embeddings=256,
    tie_word_embeddings=True,
    eos_token_id=None,
    bos_token_id=None,
    pad_token_id=0,
  )
  transformers.Qwen2ForCausalLM(config).save_pretrained(folder)


def _draw_prompts(batch: int) -> np.ndarray:
  """Random ids [batch, 64]."""
  drawn = np.random.default_rng(0).integers(3, _VOCABULARY, (batch, _PROMPT))
  return drawn.astype(np.int64)
