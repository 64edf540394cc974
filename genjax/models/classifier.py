"""A small convolutional classifier: the feature space in which images are judged."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Aux, Batch, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional import pixels
from genjax.nn.conv import Conv, halvings, shift
from genjax.nn.mlp import one_hot

PLAYER = "classifier"


@dataclasses.dataclass(frozen=True)
class Config:
    """A classifier of images.

    Attributes:
      width: channels of the first convolution, doubled at each halving.
      features: D, the width of the layer before the logits.
      shift: training images are moved by up to so many pixels in each direction.
      smoothing: of the training labels (Szegedy et al. 2016, sec. 7).
    """

    width: int = 32
    features: int = 64
    shift: int = 1
    smoothing: float = 0.0


class Classifier(nn.Module):
    """Image in [-1, 1] -> (logits, features)."""

    config: Config
    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> tuple[Float[Array, "B K"], Float[Array, "B D"]]:
        c = self.config
        h = nn.relu(Conv(c.width, kernel_init=he, name="in")(x))
        for i in range(halvings(*x.shape[1:3], smallest=2)):
            width = c.width * 2 ** min(i + 1, 2)
            h = nn.relu(Conv(width, 3, 2, kernel_init=he, name=f"down_{i}")(h))
        h = nn.relu(nn.Dense(c.features, kernel_init=he, name="features")(h.reshape(h.shape[0], -1)))
        return nn.Dense(self.classes, name="logits")(h), h


he = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


def build(config: Config, spec: Spec, stages: dict[str, Any] | None = None) -> Model:
    """The classifier of the spec's labels. Capabilities: predict -> {"logits" B K, "features" B D}.

    Raises:
      ConfigError: the data has no images of whole levels, or no labels.
    """
    if "image" not in spec or not spec["image"].levels:
        raise ConfigError(f"classifier needs images of whole levels; the data has {sorted(spec.elements)}")
    if not spec.classes():
        raise ConfigError(
            "classifier needs labels, and the data has none", "name data whose rows have `label`"
        )
    levels, classes = spec["image"].levels or 0, spec.classes()
    net = Classifier(config, classes)

    def init(key: jax.Array, batch: Batch, frozen: Any) -> Variables:
        params = net.init(key, pixels.to_signed(batch["image"], levels))["params"]
        return Variables(params={PLAYER: params}, frozen=frozen)

    def run(variables: Variables, x: jax.Array) -> Any:
        return net.apply({"params": variables.params[PLAYER]}, x)

    def objective(
        variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        x, mask = pixels.to_signed(batch["image"], levels), batch["mask"]
        target = one_hot(batch["label"], classes)
        if step is not None:
            x = shift(keys, x, config.shift, fill=-1.0) if config.shift else x
            target = (1 - config.smoothing) * target + config.smoothing / classes
        logits, _ = run(variables, x)
        nats = -(target * jax.nn.log_softmax(logits)).sum(-1)
        right = (logits.argmax(-1) == batch["label"]).astype(nats.dtype)
        return Mean.of(nats, mask), Aux(variables.state, {"accuracy": Mean.of(right, mask)})

    def predict(variables: Variables, batch: Batch) -> dict[str, jax.Array]:
        logits, features = run(variables, pixels.to_signed(jnp.asarray(batch["image"]), levels))
        return {"logits": logits, "features": features}

    return Model(init=init, phases={"classifier": Phase(PLAYER, objective)}, predict=predict)
