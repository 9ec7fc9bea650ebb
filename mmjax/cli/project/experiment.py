r"""Does an encoder of patches, without attention, learn what texts say?

python experiment.py --config=config.py --workdir=runs/first
"""

import einops
import flax.linen as nn
import jax.numpy as jnp

from mmjax import ops
from mmjax.training import experiment, main
from mmjax.types import Array, Size, TokenVectors


class PatchEncoder(nn.Module):
  """Encodes each patch by itself; the summary is their mean.

  Attributes:
    width: D of the tokens.
    depth: number of layers over each patch.
    patch_size: P, in pixels.
    dtype: dtype of the computation.
  """

  width: Size
  depth: Size = 2
  patch_size: Size = 8
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, images: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes images [B, H, W, 3] as values [B, N, D]."""
    size = self.patch_size
    x = einops.rearrange(
      images, 'b (h p) (w q) c -> b (h w) (p q c)', p=size, q=size
    )
    for _ in range(self.depth):
      x = nn.gelu(nn.Dense(self.width, dtype=self.dtype)(x))
    real = jnp.ones(x.shape[:2], bool)  # [B, N]
    if mask is not None:  # [B], False where the image is absent.
      real &= mask[:, None]
    return TokenVectors(x, real, ops.mean_tokens(x, real))


# What a config can name beside what mmjax has: also tasks, models, kinds.
build = experiment.Builder(parts={'image': {'patches': PatchEncoder}})

if __name__ == '__main__':
  main.launch(build)
