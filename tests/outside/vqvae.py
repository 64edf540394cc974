"""VQ-VAE (van den Oord et al. 2017, arXiv:1711.00937) with an EMA codebook and k-means initialisation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Aux, Batch, Codec, Element, Keys, Mean, Model, Phase, Spec, Variables, across
from genjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a VQ-VAE whose encoder reads patches.

    Attributes:
      patch: side of the patches; one code each.
      codes: K, entries of the codebook.
      width: D, of the codes; hidden: of the networks.
      decay: of the codebook's averages. commitment: beta of the paper.
      rounds: of k-means on real rows, before the first step.
    """

    patch: int = 2
    codes: int = 32
    width: int = 8
    hidden: int = 64
    decay: float = 0.95
    commitment: float = 0.25
    rounds: int = 10


class Encoder(nn.Module):
    width: int
    hidden: int

    @nn.compact
    def __call__(self, patches: Float[Array, "B h w P"]) -> Float[Array, "B h w D"]:
        h = nn.relu(nn.Dense(self.hidden)(patches))
        return nn.Dense(self.width)(h)


class Decoder(nn.Module):
    shape: tuple[int, ...]
    hidden: int

    @nn.compact
    def __call__(self, z: Float[Array, "B h w D"]) -> Float[Array, "B N"]:
        h = nn.relu(nn.Dense(2 * self.hidden)(z.reshape(z.shape[0], -1)))
        h = nn.relu(nn.Dense(2 * self.hidden)(h))
        size = self.shape[0] * self.shape[1] * self.shape[2]
        return nn.Dense(size)(h)


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the codec of the first target.

    Raises:
      ConfigError: the target is no quantised image, or its sides are no multiples of the patch.
    """
    element = spec[spec.targets[0]]
    if len(element.shape) != 3 or not element.levels or any(n % config.patch for n in element.shape[:2]):
        raise ConfigError("vqvae needs quantised images of whole patches", "change model.patch or the data")
    encoder = Encoder(config.width, config.hidden)
    m = _VQVAE(config, spec, spec.targets[0], encoder, Decoder(element.shape, config.hidden))
    return Model(
        init=m.init,
        phases={"reconstruction": Phase("codec", m.objective, rowwise=False)},
        fit=m.fit,
        codec=Codec(m.encode, m.decode, m.code_spec),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _VQVAE:
    """Implement the contract. The state is the codebook and the averages that define it."""

    config: Config
    spec: Spec
    target: str
    encoder: Encoder
    decoder: Decoder

    @property
    def element(self) -> Element:
        return self.spec[self.target]

    @property
    def grid(self) -> tuple[int, int]:
        return self.element.shape[0] // self.config.patch, self.element.shape[1] // self.config.patch

    def code_spec(self, spec: Spec) -> Spec:
        codes = Element(self.grid, "int32", self.config.codes, None, "target")
        kept = {name: e for name, e in spec.elements.items() if name != self.target}
        return dataclasses.replace(spec, elements={"codes": codes, **kept})

    def patches(self, batch: Batch) -> Float[Array, "B h w P"]:
        c = self.config
        h, w = self.grid
        x = 2.0 * batch[self.target].astype(jnp.float32) / ((self.element.levels or 2) - 1) - 1.0
        x = x.reshape(-1, h, c.patch, w, c.patch, self.element.shape[2])
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, h, w, c.patch * c.patch * self.element.shape[2])

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        c = self.config
        first, second, third = jax.random.split(key, 3)
        patches = self.patches(batch)[:1]
        z = jnp.zeros((1, *self.grid, c.width))
        params = {
            "encoder": self.encoder.init(first, patches)["params"],
            "decoder": self.decoder.init(second, z)["params"],
        }
        codebook = jax.random.normal(third, (c.codes, c.width))
        state = {"codebook": codebook, "count": jnp.ones(c.codes), "total": codebook}
        return Variables({"codec": params}, state, frozen=frozen)

    def features(self, variables: Variables, batch: Batch) -> Float[Array, "B h w D"]:
        encoder = {"params": variables.params["codec"]["encoder"]}
        out: Any = self.encoder.apply(encoder, self.patches(batch))
        return out

    def fit(self, variables: Variables, batch: Batch, keys: Keys) -> Variables:
        """Initialise the codebook by k-means on the features of real rows."""
        c = self.config
        z = self.features(variables, batch).reshape(-1, c.width)
        live = jnp.repeat(batch["mask"], z.shape[0] // len(batch["mask"]))
        # Start from features spread over the rows; padding rows come last and are not chosen.
        start = z[jnp.linspace(0, z.shape[0] - 1, c.codes).astype(jnp.int32)]

        def one(codebook: Array, _: None) -> tuple[Array, None]:
            count, total = _assigned(z, nearest(z, codebook), live, c.codes)
            return jnp.where(count[:, None] > 0, total / jnp.maximum(count, 1)[:, None], codebook), None

        codebook, _ = jax.lax.scan(one, start, None, length=c.rounds)
        return variables.replace(state={"codebook": codebook, "count": jnp.ones(c.codes), "total": codebook})

    def objective(self, variables: Variables, batch: Batch, keys: Keys, *, step: Any) -> tuple[Mean, Aux]:
        c = self.config
        z = self.features(variables, batch)
        flat = z.reshape(-1, c.width)
        index = nearest(jax.lax.stop_gradient(flat), variables.state["codebook"])
        q = variables.state["codebook"][index].reshape(z.shape)
        # Straight-through: the decoder reads q, the gradient passes to z unchanged (eq. 3).
        out = self.reconstruct(variables, z + jax.lax.stop_gradient(q - z))
        target = 2.0 * batch[self.target].astype(jnp.float32) / ((self.element.levels or 2) - 1) - 1.0
        error = jnp.square(out - target).mean((1, 2, 3))
        commitment = jnp.square(z - jax.lax.stop_gradient(q)).mean((1, 2, 3))
        loss = Mean.of(error + c.commitment * commitment, batch["mask"])
        metrics = {"error": Mean.of(error, batch["mask"])}
        if step is None:
            return loss, Aux(variables.state, metrics)
        live = jnp.repeat(batch["mask"], flat.shape[0] // len(batch["mask"]))
        sums = across(_assigned(jax.lax.stop_gradient(flat), index, live, c.codes))
        return loss, Aux(self.updated(variables.state, sums), metrics)

    def updated(self, state: dict[str, Array], sums: tuple[Array, Array]) -> dict[str, Array]:
        """Move the averages towards a batch (appendix A.1, eq. 6-8)."""
        d = self.config.decay
        count = d * state["count"] + (1 - d) * sums[0]
        total = d * state["total"] + (1 - d) * sums[1]
        return {"codebook": total / (count + 1e-5)[:, None], "count": count, "total": total}

    def reconstruct(self, variables: Variables, z: Array) -> Float[Array, "B H W C"]:
        out: Any = self.decoder.apply({"params": variables.params["codec"]["decoder"]}, z)
        return out.reshape(-1, *self.element.shape)

    def encode(self, variables: Variables, batch: Batch, keys: Keys | None = None) -> Batch:
        z = self.features(variables, batch)
        index = nearest(z.reshape(-1, self.config.width), variables.state["codebook"])
        rest = {name: x for name, x in batch.items() if name != self.target}
        return {"codes": index.reshape(-1, *self.grid), **rest}

    def decode(self, variables: Variables, codes: Batch) -> Batch:
        out = self.reconstruct(variables, variables.state["codebook"][codes["codes"]])
        levels = self.element.levels or 2
        value = jnp.clip(jnp.round((out + 1.0) / 2.0 * (levels - 1)), 0, levels - 1)
        rest = {name: x for name, x in codes.items() if name != "codes"}
        return {self.target: value.astype(self.element.dtype), **rest}


def nearest(z: Float[Array, "N D"], codebook: Float[Array, "K D"]) -> Int[Array, " N"]:
    """Return the index of the nearest code of each feature."""
    distance = -2 * z @ codebook.T + jnp.square(codebook).sum(-1)[None]
    return distance.argmin(-1).astype(jnp.int32)


def _assigned(z: Array, index: Array, live: Array, codes: int) -> tuple[Array, Array]:
    """Return how many live features each code has, and their sum."""
    one_hot = jax.nn.one_hot(index, codes) * live[:, None]
    return one_hot.sum(0), one_hot.T @ z
