"""Writes tiny diffusion transformers and what diffusers computes with them.

Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden_diffusion.py
"""

from pathlib import Path

import diffusers
import numpy as np
import torch

FOLDER = Path(__file__).parent / 'golden'
SIZES = {'num_attention_heads': 2, 'attention_head_dim': 6, 'num_layers': 2}
TIMES = np.asarray([7.0, 900.0], np.float32)


def draw(*shape: int) -> np.ndarray:
  rng = np.random.default_rng(sum(shape))
  return rng.normal(size=shape).astype(np.float32)


def make(cls, **settings):
  torch.manual_seed(0)
  model = cls(**SIZES, **settings).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.copy_(torch.randn_like(parameter) * 0.3)
  return model


def save(name: str, model, given: dict[str, np.ndarray], call) -> None:
  """Writes the model, its inputs by our names, and its output."""
  model.save_pretrained(FOLDER / name)
  tensors = {key: torch.tensor(value) for key, value in given.items()}
  with torch.no_grad():
    out = call(model, torch.tensor(TIMES), **tensors).numpy()
  np.savez(FOLDER / name / 'expected.npz', times=TIMES, out=out, **given)
  for path in (FOLDER / name).iterdir():
    path.chmod(0o644)


def dit() -> None:
  model = make(
    diffusers.DiTTransformer2DModel,
    in_channels=3,
    out_channels=6,
    sample_size=4,
    num_embeds_ada_norm=5,
  )
  given = {'latents': draw(2, 4, 4, 3), 'label': np.asarray([2, 5])}

  def call(model, times, latents, label):
    out = model(latents.movedim(-1, 1), times, label).sample
    return out.movedim(1, -1)

  save('dit', model, given, call)


def pixart() -> None:
  model = make(
    diffusers.PixArtTransformer2DModel,
    in_channels=3,
    out_channels=6,
    sample_size=8,
    cross_attention_dim=12,
    caption_channels=7,
    use_additional_conditions=True,
  )
  given = {
    'latents': draw(2, 4, 6, 3),
    'text': draw(2, 5, 7),
    'text_mask': np.arange(5)[None] < [[5], [2]],
    'image_size': np.asarray([[40, 60], [50, 50]], np.float32),
  }

  def call(model, times, latents, text, text_mask, image_size):
    sizes = {
      'resolution': image_size,
      'aspect_ratio': image_size[:, :1] / image_size[:, 1:],
    }
    return model(
      latents.movedim(-1, 1),
      text,
      times,
      sizes,
      encoder_attention_mask=text_mask.float(),
    ).sample.movedim(1, -1)

  save('pixart', model, given, call)


def sd3() -> None:
  model = make(
    diffusers.SD3Transformer2DModel,
    in_channels=3,
    out_channels=3,
    sample_size=8,
    joint_attention_dim=7,
    caption_projection_dim=12,
    pooled_projection_dim=5,
    pos_embed_max_size=5,
    dual_attention_layers=(0,),
    qk_norm='rms_norm',
  )
  given = {
    'latents': draw(2, 4, 6, 3),
    'text': draw(2, 5, 7),
    'text_pooled': draw(2, 5),
  }

  def call(model, times, latents, text, text_pooled):
    out = model(latents.movedim(-1, 1), text, text_pooled, times).sample
    return out.movedim(1, -1)

  save('sd3', model, given, call)


def prior_transformer() -> None:
  model = make(diffusers.PriorTransformer, embedding_dim=7, num_embeddings=5)
  given = {
    'noisy': draw(2, 7),
    'tokens': draw(2, 5, 7),
    'mask': np.arange(5)[None] < [[5], [2]],
    'text': draw(2, 7) + 1,
  }

  def call(model, times, noisy, tokens, mask, text):
    out = model(noisy, times, text, tokens, mask)
    return out.predicted_image_embedding

  save('prior_transformer', model, given, call)


if __name__ == '__main__':
  dit()
  pixart()
  sd3()
  prior_transformer()
