"""Several `Tokens` in, one `Tokens` out.

Shape letters are those of `mmjax.types`.
"""

from mmjax.fusion.fusion import Concat, CrossAttention, Gated

__all__ = ['Concat', 'CrossAttention', 'Gated']
