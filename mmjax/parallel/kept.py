"""Names of results that rematerialisation can keep."""

from jax.ad_checkpoint import checkpoint_name

# Mixed values of attention, and the softmax's sums where a kernel needs them.
ATTENTION = 'attention'
# Queries, keys, values, and the layer after attention.
PROJECTION = 'projection'
# The hidden layer of MLPs, before its activation.
HIDDEN = 'hidden'
NAMES = (ATTENTION, PROJECTION, HIDDEN)

name = checkpoint_name
