"""The dense layer of all modules."""

from typing import Any

import flax.linen as nn

from mmjax.parallel import products


class Dense(nn.Dense):
  """`flax.linen.Dense`, with the product in the device's best form."""

  dot_general: Any = products.dot_general
