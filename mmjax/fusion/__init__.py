"""Several `Tokens` in, one `Tokens` out."""

from mmjax.fusion.fusion import Concat, CrossAttention, Gated

__all__ = ['Concat', 'CrossAttention', 'Gated']
