"""Classifier of images: a small convolutional network, whose features serve the metrics of samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Natural, Rate, Width
from genjax.core import Aux, Batch, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional import pixels
from genjax.nn.conv import Conv, halvings, shift
from genjax.nn.mlp import one_hot

PLAYER = "classifier"


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a classifier of images.

    Attributes:
      width: channels of the first convolution, doubled at each halving.
      features: D, the width of the layer before the logits.
      shift: training images are moved by up to this many pixels in each direction.
      smoothing: of the training labels (Szegedy et al. 2016, sec. 7).
    """

    width: Width = 32
    features: Width = 64
    shift: Natural = 1
    smoothing: Rate = 0.0


class Classifier(nn.Module):
    """Map images in [-1, 1] to logits, features and activations."""

    config: Config
    classes: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"]
    ) -> tuple[Float[Array, "B K"], Float[Array, "B D"], list[Float[Array, "B h w F"]]]:
        """Return logits, features, and the activations at each resolution."""
        c = self.config
        h = nn.relu(Conv(c.width, kernel_init=he, name="in")(x))
        maps = [h]
        for i in range(halvings(*x.shape[1:3], smallest=2)):
            width = c.width * 2 ** min(i + 1, 2)
            h = nn.relu(Conv(width, 3, 2, kernel_init=he, name=f"down_{i}")(h))
            maps.append(h)
        h = nn.relu(nn.Dense(c.features, kernel_init=he, name="features")(h.reshape(h.shape[0], -1)))
        return nn.Dense(self.classes, name="logits")(h), h, maps


he = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the classifier of the spec's label. Capability: predict.

    It returns {"logits": B K, "features": B D, "maps": activations B h w F at each resolution}.

    Raises:
      ConfigError: the data has no images of whole levels, or no labels.
    """
    del stages
    image = pixels.quantised_image(spec, "classifier")
    label = spec.label
    if label is None:
        raise ConfigError("classifier needs labels, and the data has none", "choose data with a class label")
    classes = spec.classes()
    m = _Classifier(config, image, spec[image].levels or 0, label, classes, Classifier(config, classes))
    return Model(init=m.init, phases={"classifier": Phase(PLAYER, m.objective)}, predict=m.predict)


@dataclasses.dataclass(frozen=True, eq=False)
class _Classifier:
    """Implement the contract on the elements `image` and `label`."""

    config: Config
    image: str
    levels: int
    label: str
    classes: int
    network: Classifier

    def signed(self, batch: Batch) -> Float[Array, "B H W C"]:
        """Return the images in [-1, 1]."""
        return pixels.to_signed(jnp.asarray(batch[self.image]), self.levels)

    def apply(self, variables: Variables, x: jax.Array) -> Any:
        return self.network.apply({"params": variables.params[PLAYER]}, x)

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        params = self.network.init(key, self.signed(batch))["params"]
        return Variables(params={PLAYER: params}, frozen=frozen)

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        c = self.config
        x = self.signed(batch)
        mask = batch["mask"]
        target = one_hot(batch[self.label], self.classes)
        if step is not None:
            x = shift(keys, x, c.shift, fill=-1.0) if c.shift else x
            target = (1 - c.smoothing) * target + c.smoothing / self.classes
        logits, _, _ = self.apply(variables, x)
        nats = -(target * jax.nn.log_softmax(logits)).sum(-1)
        right = (logits.argmax(-1) == batch[self.label]).astype(nats.dtype)
        return Mean.of(nats, mask), Aux(variables.state, {"accuracy": Mean.of(right, mask)})

    def predict(self, variables: Variables, batch: Batch) -> dict[str, Any]:
        logits, features, maps = self.apply(variables, self.signed(batch))
        return {"logits": logits, "features": features, "maps": maps}
