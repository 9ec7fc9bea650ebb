"""The task of learning classes from the model's own confident predictions."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.data.features import Feature
from mmjax.objectives import presence, text
from mmjax.tasks import views
from mmjax.types import (
  Array,
  AxisNames,
  Batch,
  Items,
  Metrics,
  Outputs,
  Setting,
)

# No probability exceeds 1.
Threshold = Annotated[float, Setting(minimum=0, below=1)]


@dataclasses.dataclass(frozen=True)
class PseudoLabeling:
  """Cross-entropy of a strong view against the class of a weak one.

  FixMatch (Sohn et al. 2020, eq. 4). The class that the model predicts from the
  weakly augmented view is the target of the strongly augmented one, where its
  probability is above the threshold. Labels aren't read: examples with a label
  count like all others.

  The weak view's prediction is that of the training pass, so it has the same
  dropout, and no gradient. The mean is over all examples that have both views,
  also those below the threshold.

  Attributes:
    target: the category.
    field: feature that the model reads, the weak view.
    strong: feature of the strong view.
    threshold: probability that the predicted class has to exceed.
  """

  compares: ClassVar[tuple[str, ...]] = ()

  target: str
  field: str
  strong: str
  threshold: float

  def count(self, batch: Batch) -> Array:
    """Number of examples that have both views."""
    mask = presence.joint_mask(batch, self.field, self.strong)
    return mask.sum(dtype=jnp.float32)

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and the fraction `confident` above the threshold."""
    del axis_name
    mask = presence.joint_mask(batch, self.field, self.strong)  # [B]
    name = f'{self.target}_output'
    weak = ops.zero_masked(presence.get_output(outputs, name), mask)  # [B, C]
    probabilities = jax.nn.softmax(jax.lax.stop_gradient(weak))
    labels = jnp.argmax(probabilities, axis=-1)  # [B]
    confident = probabilities.max(axis=-1) > self.threshold
    swapped = views.swap(batch, self.field, self.strong)
    strong = apply(swapped, train=True, rngs={'dropout': rng})[name]
    losses = text.cross_entropy(ops.zero_masked(strong, mask), labels)  # [B]
    losses = jnp.where(confident, losses, 0.0)
    return ops.masked_mean(losses, mask), {
      'confident': ops.masked_mean(confident, mask),
      'items': Items(losses, mask),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class PseudoLabels(views.OfViews):
  """Learns classes from records without labels, by two views (FixMatch).

  `classify` beside learns from the labels.

  Attributes:
    target: feature of the kind category, of one class a record.
    field: feature that the model reads, with a weak augmentation.
    strong: feature of the same field with a strong augmentation.
    threshold: probability above which a prediction is a target.
  """

  name: ClassVar[str] = 'pseudo_labels'
  setting: ClassVar[str] = 'strong'

  strong: str = 'strong'
  threshold: Threshold = 0.95

  def objective(self, features: Mapping[str, Feature]) -> PseudoLabeling:
    del features
    self.check_settings()
    return PseudoLabeling(self.target, self.field, self.strong, self.threshold)
