"""Variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114; Rezende et al. 2014, arXiv:1401.4082).

The posterior is a diagonal Gaussian, the prior is a standard Gaussian. The decoder's distribution of a pixel
is a discretised logistic or Gaussian over the levels (a likelihood of the data, in bits per dimension), a
Gaussian density, or the Bernoulli cross-entropy of grey values, which is a loss but not a likelihood.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import NotNegative, Range, Width, check
from genjax.core import Aux, Batch, Codec, Element, Keys, Mean, Model, Phase, Spec, Variables
from genjax.functional import likelihoods, pixels
from genjax.functional.decoded_pixels import DecodedPixels, Likelihood
from genjax.functional.divergences import kl_normal
from genjax.functional.noise import fold, normal
from genjax.nn.conditions import ClassLabel
from genjax.nn.conv import Conv, halvings
from genjax.nn.mlp import MLP

PLAYER = "vae"
LATENT = "latent"
"""The name of the codes."""


Scale = Annotated[float, Range(above=0, most=10)]
"""A scale of values in [-1, 1]."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a variational autoencoder of images.

    Attributes:
      latent: dimensions of z, or its channels if `spatial`.
      network: "conv" or "mlp", for encoder and decoder.
      spatial: z is a map (H / 2^n, W / 2^n, latent), where n is how often the image can be halved; needs
        network="conv". False for a vector (latent,).
      width: channels of the first convolution, doubled at each halving.
      hidden: widths of the MLP's hidden layers in the encoder; the decoder has them in reverse order.
      likelihood: of the image given z; "normal" is a density of the values in [-1, 1].
      scale: the scale of a logistic or normal: "pixel" (the decoder computes one for each pixel), "shared"
        (one learned number; Rybkin et al. 2021, arXiv:2006.13202) or "fixed" (`sigma`).
      sigma: the scale in units of the values in [-1, 1]; the initial one if it is learned.
      smallest: lower bound of a learned scale in the same units. A density needs one: it is unbounded on
        pixels that never change.
      beta: weight of the KL term in the loss (Higgins et al. 2017); 1 for the bound itself.
      conditional: encoder and decoder read the label if the data has one.
    """

    latent: Width = 16
    network: Literal["conv", "mlp"] = "conv"
    spatial: bool = False
    width: Width = 32
    hidden: tuple[Width, ...] = (400,)
    likelihood: Likelihood = "discretised_logistic"
    scale: Literal["pixel", "shared", "fixed"] = "pixel"
    sigma: Scale = 0.1
    smallest: Scale = 1e-3
    beta: NotNegative = 1.0
    conditional: bool = True

    def __post_init__(self):
        check(self)
        if not 0 < self.smallest < self.sigma:
            raise ValueError(f"smallest={self.smallest} must lie between 0 and sigma={self.sigma}")
        if self.spatial and self.network != "conv":
            raise ValueError(f"spatial latents need network='conv', got {self.network!r}")


class Encoder(nn.Module):
    """Map (image in [-1, 1], condition) to the mean and log standard deviation of z."""

    config: Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], condition: Float[Array, "B K"]
    ) -> tuple[Float[Array, "B *Z"], Float[Array, "B *Z"]]:
        c = self.config
        if c.network == "mlp":
            h = jnp.concatenate([x.reshape(x.shape[0], -1), condition], -1)
            h = MLP(c.hidden, final=True, name="body")(h)
        else:
            h = self.convolve(x, condition)
        head = (
            Conv(2 * c.latent, 1, name="posterior") if c.spatial else nn.Dense(2 * c.latent, name="posterior")
        )
        mean, log_std = jnp.split(head(h), 2, -1)
        return mean, log_std

    def convolve(self, x: Float[Array, "B H W C"], condition: Float[Array, "B K"]) -> Float[Array, "B *L F"]:
        """Apply convolutions that halve the image as often as possible, then one that reads the condition."""
        c = self.config
        h = nn.silu(Conv(c.width, name="in")(x))
        for i in range(halvings(*x.shape[1:3])):
            h = nn.silu(Conv(c.width * 2 ** (i + 1), (4, 4), (2, 2), name=f"down_{i}")(h))
        if c.spatial:
            return nn.silu(Conv(h.shape[-1], name="body")(_everywhere(h, condition)))
        h = jnp.concatenate([h.reshape(x.shape[0], -1), condition], -1)
        return MLP((8 * c.width,), final=True, name="body")(h)


class Decoder(nn.Module):
    """Map (z, condition) to `outputs` numbers for every value of the image."""

    config: Config
    shape: tuple[int, int, int]
    outputs: int

    @nn.compact
    def __call__(
        self, z: Float[Array, "B *Z"], condition: Float[Array, "B K"]
    ) -> Float[Array, "outputs B H W C"]:
        c = self.config
        if c.network == "mlp":
            h = MLP(c.hidden[::-1], final=True, name="body")(jnp.concatenate([z, condition], -1))
            h = nn.Dense(math.prod(self.shape) * self.outputs, name="out")(h)
        else:
            h = self.convolve(z, condition)
        return jnp.moveaxis(h.reshape(-1, *self.shape, self.outputs), -1, 0)

    def convolve(self, z: Float[Array, "B *Z"], condition: Float[Array, "B K"]) -> Float[Array, "B H W F"]:
        c = self.config
        *low, n = _lowest(self.shape)
        size = (*low, c.width * 2**n)
        if c.spatial:
            h = nn.silu(Conv(size[-1], name="body")(_everywhere(z, condition)))
        else:
            body = MLP((8 * c.width, math.prod(size)), final=True, name="body")
            h = body(jnp.concatenate([z, condition], -1)).reshape(-1, *size)
        for i in reversed(range(n)):
            h = nn.silu(Conv(c.width * 2**i, (4, 4), (2, 2), transpose=True, name=f"up_{i}")(h))
        return Conv(self.shape[-1] * self.outputs, name="out")(h)


def _lowest(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return (height, width) of the smallest feature map and the number of halvings to it."""
    n = halvings(*shape[:2])
    return shape[0] // 2**n, shape[1] // 2**n, n


def _everywhere(x: Float[Array, "B H W C"], condition: Float[Array, "B K"]) -> Float[Array, "B H W F"]:
    """Append the condition to every pixel's channels."""
    constant = jnp.broadcast_to(condition[:, None, None, :], (*x.shape[:3], condition.shape[-1]))
    return jnp.concatenate([x, constant], -1)


class VAE(nn.Module):
    """Hold encoder and decoder, and the scale that all pixels share if there is one."""

    config: Config
    shape: tuple[int, int, int]
    levels: int
    outputs: int

    def setup(self):
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config, self.shape, self.outputs)
        if self.config.scale == "shared" and self.config.likelihood != "bernoulli":
            self.spread = self.param("spread", nn.initializers.zeros, ())

    def encode(self, image: jax.Array, condition: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.encoder(pixels.to_signed(image, self.levels), condition)

    def decode(self, z: jax.Array, condition: jax.Array) -> Float[Array, "2 B H W C"]:
        """Return the logits, or the location (in [-1, 1]) and the log scale."""
        out = self.decoder(z, condition)
        if self.config.likelihood == "bernoulli":
            return out
        return jnp.concatenate([out[:1], self.log_scale(out)])

    def log_scale(self, out: Float[Array, "O B H W C"]) -> Float[Array, "1 B H W C"]:
        c = self.config
        raw = out[1:] if c.scale == "pixel" else jnp.zeros_like(out[:1])
        if c.scale == "fixed":
            return raw + math.log(c.sigma)
        if c.scale == "shared":
            raw = raw + self.spread.reshape(1, 1, 1, 1, 1)
        # softplus(20 s) / 20: starts at sigma, is never below `smallest`, and is steep near it.
        start = math.log(math.expm1((c.sigma - c.smallest) * 20.0))
        return jnp.log(nn.softplus(raw + start) / 20.0 + c.smallest)

    def __call__(self, image: jax.Array, condition: jax.Array) -> jax.Array:
        return self.decode(self.encode(image, condition)[0], condition)


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the model of the spec's first quantised image.

    The likelihood is a "bound" if the decoder is a distribution over levels, a "density" for the normal, and
    absent for grey values under a Bernoulli.

    Raises:
      ConfigError: the data has no images of whole levels.
    """
    del stages
    name = pixels.quantised_image(spec, "vae")
    element = spec[name]
    distribution = DecodedPixels(config.likelihood, element.levels or 0)
    # Numbers per value that the decoder computes: a location, and a scale if each pixel has its own.
    outputs = 2 if not distribution.binary and config.scale == "pixel" else 1
    network = VAE(config, element.shape, element.levels or 0, outputs)  # type: ignore[arg-type]
    m = _VAE(config, name, element, ClassLabel.of(spec, config.conditional), distribution, network)
    return Model(
        init=m.init,
        phases={"vae": Phase(PLAYER, m.objective)},
        sample=m.sample,
        likelihood=m.likelihood if distribution.normalised else None,
        likelihood_kind="bound" if distribution.discrete else "density",
        codec=Codec(m.encode, m.decode, m.code_spec, m.nats if distribution.normalised else None),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _VAE:
    """Implement the contract on the element `name`."""

    config: Config
    name: str
    element: Element
    label: ClassLabel
    pixels: DecodedPixels
    network: VAE

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of z for one row."""
        if not self.config.spatial:
            return (self.config.latent,)
        height, width, _ = _lowest(self.element.shape)  # type: ignore[arg-type]
        return (height, width, self.config.latent)

    def apply(self, variables: Variables, method: str, *args: Any) -> Any:
        return self.network.apply({"params": variables.params[PLAYER]}, *args, method=method)

    def condition(self, batch: Batch) -> Float[Array, "B K"]:
        return self.label.one_hot(batch, batch[self.name].shape[0])

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        params = self.network.init(key, batch[self.name], self.condition(batch))["params"]
        return Variables(params={PLAYER: params}, frozen=frozen)

    def posterior(self, variables: Variables, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Return mean and log standard deviation of q(z | x)."""
        return self.apply(variables, "encode", batch[self.name], self.condition(batch))

    def distortion(self, variables: Variables, batch: Batch, z: Float[Array, "B *Z"]) -> Float[Array, " B"]:
        """Compute -log p(x | z) per row."""
        out = self.apply(variables, "decode", z, self.condition(batch))
        return -self.pixels.log_prob(out, batch[self.name]).sum((1, 2, 3))

    def elbo(
        self, variables: Variables, batch: Batch, keys: Keys
    ) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """Return (-log p(x | z) for one draw of z, KL(q || p) in closed form) per row."""
        mean, log_std = self.posterior(variables, batch)
        z = mean + jnp.exp(log_std) * normal(keys, self.shape)
        return self.distortion(variables, batch, z), _per_row(kl_normal(mean, log_std))

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        distortion, rate = self.elbo(variables, batch, keys)
        mask = batch["mask"]
        metrics = {"distortion": Mean.of(distortion, mask), "kl": Mean.of(rate, mask)}
        if self.pixels.discrete:
            bits = (distortion + rate) / (math.prod(self.element.shape) * math.log(2.0))
            metrics["bits_per_dim"] = Mean.of(bits, mask)
        return Mean.of(distortion + self.config.beta * rate, mask), Aux(variables.state, metrics)

    def likelihood(
        self, variables: Variables, batch: Batch, keys: Keys, *, samples: int = 1
    ) -> tuple[Mean, dict]:
        """Compute the nats of the ELBO per row.

        Args:
          samples: of z. One gives the ELBO with the KL in closed form; more give the importance-weighted
            bound (Burda et al. 2016, arXiv:1509.00519, eq. 8).
        """
        if samples == 1:
            distortion, rate = self.elbo(variables, batch, keys)
            total = distortion + rate
        else:
            total = -self.importance_weighted(variables, batch, keys, samples)
        mask = batch["mask"]
        return Mean(jnp.where(mask > 0, total, 0), math.prod(self.element.shape) * mask), {}

    def importance_weighted(
        self, variables: Variables, batch: Batch, keys: Keys, samples: int
    ) -> Float[Array, " B"]:
        """Compute log of the mean of p(x, z) / q(z | x) over samples of z, per row."""
        mean, log_std = self.posterior(variables, batch)

        def log_weight(k: jax.Array) -> jax.Array:
            noise = normal(fold(keys, k), self.shape)
            z = mean + jnp.exp(log_std) * noise
            # log p(z) - log q(z | x): the constants of both normals cancel.
            ratio = 0.5 * (jnp.square(noise) - jnp.square(z)) + log_std
            return _per_row(ratio) - self.distortion(variables, batch, z)

        # One sample at a time: memory does not grow with their number.
        return likelihoods.log_mean_exp(jax.lax.map(log_weight, jnp.arange(samples)))

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
          temperature: standard deviation of the prior of z.
        """
        label = self.label.drawn(prompt, keys)
        z = temperature * normal(keys, self.shape)
        out = self.apply(variables, "decode", z, self.label.one_hot(label, keys.shape[0]))
        image = jax.vmap(self.pixels.draw, (0, 1))(fold(keys, 2), out) if noise else self.pixels.mean(out)
        return {self.name: image, **label}

    # --- codec -----------------------------------------------------------------------------------------

    def code_spec(self, spec: Spec) -> Spec:
        """Return the spec with `latent` in the place of the image."""
        latent = Element(self.shape, "float32", role="target")
        items = spec.elements.items()
        elements = dict((LATENT, latent) if name == self.name else (name, e) for name, e in items)
        return dataclasses.replace(spec, elements=elements)

    def encode(self, variables: Variables, batch: Batch, keys: Keys | None = None) -> Batch:
        """Return `latent`, a draw of q(z | x) or (without keys) its mean, and the other elements."""
        mean, log_std = self.posterior(variables, batch)
        z = mean if keys is None else mean + jnp.exp(log_std) * normal(keys, self.shape)
        return {LATENT: z, **_without(batch, self.name)}

    def decode(self, variables: Variables, codes: Batch) -> Batch:
        """Return the images at the location of p(x | z), with the other elements of `codes`.

        Raises:
          ConfigError: the model is conditioned on labels, and `codes` has none.
        """
        z = codes[LATENT]
        out = self.apply(variables, "decode", z, self.label.one_hot(codes, z.shape[0]))
        return {self.name: self.pixels.mean(out), **_without(codes, LATENT)}

    def nats(self, variables: Variables, batch: Batch, codes: Batch, keys: Keys) -> Float[Array, " B"]:
        """Compute -log p(x | z) + log q(z | x) per row for z = codes["latent"]; draws nothing.

        With a prior's -log p(z), its mean over z ~ q(z | x) bounds -log p(x).
        """
        del keys
        mean, log_std = self.posterior(variables, batch)
        z = codes[LATENT]
        return self.distortion(variables, batch, z) + _per_row(likelihoods.normal(mean, log_std, z))


def _per_row(x: Float[Array, "B *Z"]) -> Float[Array, " B"]:
    """Sum over all axes but the first."""
    return x.sum(tuple(range(1, x.ndim)))


def _without(batch: Batch, name: str) -> Batch:
    return {k: x for k, x in batch.items() if k != name}
