"""Hierarchical variational autoencoder: several stochastic levels, inferred upwards or from the top down.

The two-layer network of Burda et al. 2016 (arXiv:1509.00519), and top-down inference as in the ladder
(Sonderby et al. 2016, arXiv:1602.02282) and the very deep VAE (Child 2021, arXiv:2011.10650).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from genjax.config import Count, NotNegative, Width, check, unused
from genjax.core import Aux, Batch, Codec, Element, Keys, Mean, Model, Phase, Spec, Variables, across
from genjax.errors import ConfigError
from genjax.functional import bounds, likelihoods, pixels
from genjax.functional.decoded_pixels import DecodedPixels, Likelihood
from genjax.functional.divergences import kl_normal
from genjax.functional.noise import fold, normal
from genjax.functional.reductions import sum_row
from genjax.nn.conditions import ClassLabel
from genjax.nn.conv import halvings
from genjax.nn.image_vae import FITTED, Scale, Spread, log_odds, read
from genjax.nn.ladders import BottomUp, Inference, Levels, TopDown

PLAYER = "hvae"
LATENT = "latent"
"""The name of the codes."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a hierarchical variational autoencoder of images.

    Attributes:
      inference: "top_down", or "bottom_up" (fully connected).
      latents: dimensions of z per level (channels of a convolutional one), the level next to the data first.
      network: "conv" (a level is a map; needs inference="top_down") or "mlp".
      hidden: width of the deterministic layers per level ("mlp").
      width: channels ("conv").
      activation: of the fully connected layers.
      likelihood, components, scale, sigma, smallest: of the image given z; see the VAE.
      bound: that is maximised. Encoder and decoder cannot follow different ones ("piwae", "dreg").
      free_bits: nats of a level's KL term, averaged over the batch, below which it costs nothing in training
        (Kingma et al. 2016, arXiv:1606.04934, eq. 15); of "top_down" with bound.kind="elbo".
      conditional: the networks read the label if the data has one.
    """

    inference: Literal["top_down", "bottom_up"] = "top_down"
    latents: tuple[Width, ...] = (8, 16, 16)
    network: Literal["conv", "mlp"] = "conv"
    hidden: tuple[Width, ...] = ()
    width: Width = 32
    activation: Literal["tanh", "silu"] = "silu"
    likelihood: Likelihood = "discretised_logistic"
    components: Count = 10
    scale: Literal["pixel", "shared", "fixed"] = "pixel"
    sigma: Scale = 0.1
    smallest: Scale = 1e-3
    bound: bounds.Bound = dataclasses.field(default_factory=bounds.Bound)
    free_bits: NotNegative = 0.0
    conditional: bool = True

    def __post_init__(self):
        check(self)
        if not 0 < self.smallest < self.sigma:
            raise ValueError(f"smallest={self.smallest} must lie between 0 and sigma={self.sigma}")
        if not self.latents:
            raise ValueError("latents is empty: give the dimensions of each level")
        if self.network == "mlp" and len(self.hidden) != len(self.latents):
            raise ValueError(
                f"network='mlp': hidden={self.hidden} must have a width for each of the"
                f" {len(self.latents)} levels"
            )
        unused(self, "network", "width" if self.network == "mlp" else "hidden")
        if self.likelihood != "discretised_logistic_mixture":
            unused(self, "likelihood", "components")
        if self.inference == "bottom_up":
            unused(self, "inference", "free_bits")
            if self.network != "mlp":
                raise ValueError("inference='bottom_up' needs network='mlp'")
        if self.bound.splits:
            raise ValueError(f"bound.kind={self.bound.kind!r}: encoder and decoder share their layers here")
        if (self.bound.kind != "elbo" or self.bound.groups > 1) and self.free_bits:
            raise ValueError("free_bits applies to bound.kind='elbo' with one draw (bound.groups=1)")


class Network(nn.Module):
    """Hold the levels, and the scale that all pixels share if there is one."""

    config: Config
    levels: Levels
    spread: Spread
    shape: tuple[int, int, int]
    values: int

    def setup(self):
        kind = TopDown if self.config.inference == "top_down" else BottomUp
        self.ladder = kind(self.levels, self.shape, self.spread.outputs)
        if self.spread.of == "shared":
            self.shared = self.param("spread", nn.initializers.zeros, ())
        if self.spread.of == "none":
            self.offset = self.variable(FITTED, "offset", jnp.zeros, self.shape)

    def infer(self, image: jax.Array, condition: jax.Array, noise: list[jax.Array]) -> Inference:
        found = self.ladder.infer(self._read(image), condition, noise)
        return found._replace(out=self._spread(found.out))

    def describe(self, image: jax.Array, condition: jax.Array, noise: list[jax.Array]) -> Inference:
        found = self.ladder.describe(self._read(image), condition, noise)
        return found._replace(out=self._spread(found.out))

    def generate(self, condition: jax.Array, noise: list[jax.Array]) -> jax.Array:
        return self._spread(self.ladder.generate(condition, noise))

    def _read(self, image: jax.Array) -> jax.Array:
        return read(image, self.values, self.spread.of == "none")

    def _spread(self, out: jax.Array) -> jax.Array:
        if self.spread.of == "none":
            return out + self.offset.value[None, None]
        return self.spread.apply(out, self.shared if self.spread.of == "shared" else None)


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the model of the spec's first quantised image.

    Raises:
      ConfigError: the data has no images of whole levels, or a convolutional one cannot be halved.
    """
    del stages
    name = pixels.quantised_image(spec, "hvae")
    element = spec[name]
    shape: tuple[int, int, int] = element.shape  # type: ignore[assignment]
    most = halvings(*shape[:2])
    if config.network == "conv" and not most:
        raise ConfigError(f"model.network='conv': images of {shape[:2]} cannot be halved", "use 'mlp'")
    levels = Levels(config.latents, config.hidden, config.network, config.width, most, config.activation)
    distribution = DecodedPixels(config.likelihood, element.levels or 0, config.components)
    spread = Spread.for_pixels(distribution, config.scale, config.sigma, config.smallest, shape[2])
    network = Network(config, levels, spread, shape, element.levels or 0)
    m = _HVAE(config, name, element, ClassLabel.of(spec, config.conditional), distribution, network)
    return Model(
        init=m.init,
        phases={"hvae": Phase(PLAYER, m.objective, rowwise=not config.free_bits)},
        fit=m.fit if distribution.binary else None,
        sample=m.sample,
        likelihood=m.likelihood if distribution.normalised else None,
        likelihood_kind="bound" if distribution.discrete else "density",
        rate_distortion=m.rate_distortion if distribution.normalised else None,
        codec=Codec(m.encode, m.decode, m.code_spec, m.nats if distribution.normalised else None, m.expected),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _HVAE:
    """Implement the contract on the element `name`."""

    config: Config
    name: str
    element: Element
    label: ClassLabel
    pixels: DecodedPixels
    network: Network

    @functools.cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """Return the shape of z for one row, per level."""
        return self.network.levels.shapes(self.network.shape)

    def noise(self, keys: Keys) -> list[jax.Array]:
        """Draw standard normal noise for every level."""
        return [normal(fold(keys, level), shape) for level, shape in enumerate(self.shapes)]

    def apply(self, variables: Variables, method: str, *args: Any) -> Any:
        fitted = {FITTED: variables.state} if variables.state else {}
        return self.network.apply({"params": variables.params[PLAYER], **fitted}, *args, method=method)

    def condition(self, batch: Batch, rows: int) -> Float[Array, "B K"]:
        return self.label.one_hot(batch, rows)

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        image = batch[self.name]
        rows = image.shape[0]
        noise = [jnp.zeros((rows, *shape)) for shape in self.shapes]
        made = self.network.init(key, image, self.condition(batch, rows), noise, method="infer")
        return Variables({PLAYER: made["params"]}, made.get(FITTED, {}), frozen=frozen)

    def fit(self, variables: Variables, batch: Batch, keys: Keys) -> Variables:
        """Fit the logits that the decoder starts at."""
        del keys
        offset = log_odds(batch[self.name], batch["mask"], self.element.levels or 2)
        return variables.replace(state={"offset": offset})

    def inference(self, variables: Variables, batch: Batch, keys: Keys) -> tuple[jax.Array, Inference]:
        """Return (-log p(x | z) per row, the draws of all levels and their distributions)."""
        image = batch[self.name]
        condition = self.condition(batch, image.shape[0])
        found = self.apply(variables, "infer", image, condition, self.noise(keys))
        return -sum_row(self.pixels.log_prob(found.out, image)), found

    def rates(self, found: Inference) -> Float[Array, "L B"]:
        """Return the KL term of every level per row.

        Given the levels above, it is KL(q || p) in closed form. Inferred upwards, p depends on levels that
        are drawn after this one, and the term is an estimate from the draws.
        """
        if self.config.inference == "top_down":
            each = [sum_row(kl_normal(*q, *p)) for q, p in zip(found.q, found.p, strict=True)]
        else:
            each = [-ratio for ratio in self.log_ratios(found)]
        return jnp.stack(each)

    def log_ratios(self, found: Inference) -> list[Float[Array, " B"]]:
        """Return log p(z_l | ...) - log q(z_l | ...) of the draws, per level and row."""
        log_p = [sum_row(likelihoods.normal(*p, z)) for p, z in zip(found.p, found.z, strict=True)]
        log_q = [sum_row(likelihoods.normal(*q, z)) for q, z in zip(found.q, found.z, strict=True)]
        return [a - b for a, b in zip(log_p, log_q, strict=True)]

    def log_weight(self, variables: Variables, batch: Batch, keys: Keys) -> Float[Array, " B"]:
        """Compute log p(x, z) - log q(z | x) of one draw per row."""
        distortion, found = self.inference(variables, batch, keys)
        return jnp.stack(self.log_ratios(found)).sum(0) - distortion

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        mask = batch["mask"]
        bound = self.config.bound
        if bound.kind != "elbo" or bound.groups > 1:
            one = lambda k: self.log_weight(variables, batch, fold(keys, k))
            log_w = jax.vmap(one)(jnp.arange(bound.groups * bound.samples))
            nats = -bound.value(log_w.reshape(bound.groups, bound.samples, -1))
            return Mean.of(nats, mask), Aux(variables.state, self.metrics(nats, mask))
        distortion, found = self.inference(variables, batch, keys)
        rates = self.rates(found)
        metrics = {f"kl_{level}": Mean.of(rate, mask) for level, rate in enumerate(rates)}
        metrics |= {"distortion": Mean.of(distortion, mask), **self.metrics(distortion + rates.sum(0), mask)}
        paid = rates if step is None else self.paid(rates, mask)
        return Mean.of(distortion + paid.sum(0), mask), Aux(variables.state, metrics)

    def paid(self, rates: Float[Array, "L B"], mask: Float[Array, " B"]) -> Float[Array, "L B"]:
        """Replace the KL terms of a level whose mean over the batch is below `free_bits` by that constant."""
        if not self.config.free_bits:
            return rates
        total = across((jnp.where(mask > 0, rates, 0.0).sum(1), mask.sum()))
        mean = total[0] / jnp.maximum(total[1], 1.0)
        return jnp.where(mean[:, None] < self.config.free_bits, self.config.free_bits, rates)

    def metrics(self, nats: Float[Array, " B"], mask: Float[Array, " B"]) -> dict[str, Mean]:
        """Return the bound in nats, and in bits per dimension of discrete data."""
        metrics = {"nats": Mean.of(nats, mask)}
        if self.pixels.discrete:
            metrics["bits_per_dim"] = Mean.of(nats / (self.size * math.log(2.0)), mask)
        return metrics

    @property
    def size(self) -> int:
        return math.prod(self.element.shape)  # type: ignore[arg-type]

    def likelihood(
        self, variables: Variables, batch: Batch, keys: Keys, *, samples: bounds.Draws = 1
    ) -> tuple[Mean, dict]:
        """Compute the nats of the bound per row.

        Args:
          samples: of z. One gives the ELBO; more give the importance-weighted bound (Burda et al., eq. 8).
        """
        if samples == 1:
            distortion, found = self.inference(variables, batch, keys)
            total = distortion + self.rates(found).sum(0)
        else:
            one = lambda k: self.log_weight(variables, batch, fold(keys, k))
            total = -likelihoods.log_mean_exp_of(one, samples, batch["mask"].shape[0])
        mask = batch["mask"]
        return Mean(jnp.where(mask > 0, total, 0), self.size * mask), {}

    def rate_distortion(self, variables: Variables, batch: Batch, keys: Keys) -> tuple[Mean, Mean]:
        """Compute KL(q || p) of all levels and -log p(x | z) per row."""
        distortion, found = self.inference(variables, batch, keys)
        mask = batch["mask"]
        mean = lambda x: Mean(jnp.where(mask > 0, x, 0), self.size * mask)
        return mean(self.rates(found).sum(0)), mean(distortion)

    def sample(
        self,
        variables: Variables,
        keys: Keys,
        prompt: Batch,
        *,
        noise: bool = False,
        temperature: NotNegative = 1.0,
    ) -> Batch:
        """Draw images; labels that are not given are random.

        Args:
          noise: draw the pixels instead of taking their location.
          temperature: factor on the standard deviation of every level.
        """
        label = self.label.drawn(prompt, keys)
        drawn = [temperature * e for e in self.noise(fold(keys, 4))]
        out = self.apply(variables, "generate", self.condition(label, keys.shape[0]), drawn)
        image = jax.vmap(self.pixels.draw, (0, 1))(fold(keys, 2), out) if noise else self.pixels.mean(out)
        return {self.name: image, **label}

    # --- codec -----------------------------------------------------------------------------------------

    def code_spec(self, spec: Spec) -> Spec:
        """Return the spec with `latent`, one vector for all levels, in the place of the image."""
        latent = Element((sum(map(math.prod, self.shapes)),), "float32", role="target")
        items = spec.elements.items()
        elements = dict((LATENT, latent) if name == self.name else (name, e) for name, e in items)
        return dataclasses.replace(spec, elements=elements)

    def encode(self, variables: Variables, batch: Batch, keys: Keys | None = None) -> Batch:
        """Return `latent` and the other elements.

        The codes are the noise e of every level, z = mean of p + (standard deviation of p) e, of a draw of
        q(z | x) or (without keys) of its means: under the prior they are standard normal.
        """
        image = batch[self.name]
        rows = image.shape[0]
        noise = [jnp.zeros((rows, *s)) for s in self.shapes] if keys is None else self.noise(keys)
        found = self.apply(variables, "infer", image, self.condition(batch, rows), noise)
        code = [(z - p[0]) * jnp.exp(-p[1]) for z, p in zip(found.z, found.p, strict=True)]
        flat = jnp.concatenate([x.reshape(rows, -1) for x in code], -1)
        return {LATENT: flat, **{k: x for k, x in batch.items() if k != self.name}}

    def levels_of(self, codes: Batch) -> list[jax.Array]:
        """Return the noise of every level."""
        code = codes[LATENT]
        ends = np.cumsum([math.prod(s) for s in self.shapes])[:-1]
        parts = jnp.split(code, ends.tolist(), -1)
        return [x.reshape(-1, *s) for x, s in zip(parts, self.shapes, strict=True)]

    def decoded(self, variables: Variables, codes: Batch) -> Float[Array, "outputs B H W C"]:
        condition = self.condition(codes, codes[LATENT].shape[0])
        return self.apply(variables, "generate", condition, self.levels_of(codes))

    def decode(self, variables: Variables, codes: Batch) -> Batch:
        """Return the images at the location of p(x | z), with the other elements of `codes`.

        Raises:
          ConfigError: the model is conditioned on labels, and `codes` has none.
        """
        image = self.pixels.mean(self.decoded(variables, codes))
        return {self.name: image, **{k: x for k, x in codes.items() if k != LATENT}}

    def expected(self, variables: Variables, codes: Batch) -> Batch:
        """Return the location of p(x | z) in units of levels, not rounded."""
        return {self.name: self.pixels.location(self.decoded(variables, codes))}

    def nats(self, variables: Variables, batch: Batch, codes: Batch, keys: Keys) -> Float[Array, " B"]:
        """Compute -log p(x | z) + log q(e | x) per row for the codes e; draws nothing.

        The density of e is that of z times the standard deviation of p.
        """
        del keys
        image = batch[self.name]
        condition = self.condition(batch, image.shape[0])
        found = self.apply(variables, "describe", image, condition, self.levels_of(codes))
        log_q = [
            sum_row(likelihoods.normal(q[0], q[1], z) + p[1])
            for q, p, z in zip(found.q, found.p, found.z, strict=True)
        ]
        return jnp.stack(log_q).sum(0) - sum_row(self.pixels.log_prob(found.out, image))
