"""What a block keeps for the backward pass, and what it computes again."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from mmjax.errors import check_choice
from mmjax.parallel import kept

_policies = jax.checkpoint_policies
_keep = _policies.save_only_these_names

POLICIES = {
  'dots': _policies.save_from_both_policies(
    _policies.dots_with_no_batch_dims_saveable, _keep(kept.ATTENTION)
  ),
  'projections': _keep(kept.ATTENTION, kept.PROJECTION),
  'attention': _keep(kept.ATTENTION),
  'full': _policies.nothing_saveable,
  'offload': _policies.save_and_offload_only_these_names(
    names_which_can_be_saved=[],
    names_which_can_be_offloaded=list(kept.NAMES),
    offload_src='device',
    offload_dst='pinned_host',
  ),
}


def rematerialise(
  body: Callable[..., Any], policy: str, *, prevent_cse: bool
) -> Callable[..., Any]:
  """Makes a block compute again what a policy doesn't keep (Chen et al. 2016).

  What enters the block is always kept. Kept besides:

  | policy | results of |
  |---|---|
  | 'none' | everything |
  | 'dots' | products with weights, and attention |
  | 'projections' | attention and its products with weights |
  | 'attention' | attention: what its kernels' backward pass needs |
  | 'full' | nothing |
  | 'offload' | as 'dots', in the host's memory until the backward pass |

  From 'none' to 'full', each needs less memory and more time than the one
  before it.

  Args:
    body: function of a module and arrays, as `flax.linen.remat` takes it.
    policy: 'none' or a key of `POLICIES`.
    prevent_cse: whether XLA must be kept from undoing it; not needed in a scan.

  Raises:
    ConfigError: for an unknown policy.
  """
  if policy == 'none':
    return body
  check_choice(policy, ['none', *POLICIES], 'remat')
  return nn.remat(body, policy=POLICIES[policy], prevent_cse=prevent_cse)
