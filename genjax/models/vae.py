"""Variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114; Rezende et al. 2014).

The posterior is a diagonal Gaussian, the prior a standard one. Decoders differ in what they say of a pixel:
a discretised logistic or Gaussian over the levels (a likelihood of the data: bits per dimension), a Gaussian
density, or the Bernoulli cross-entropy of grey values, which is a loss and no likelihood.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Aux, Batch, Codec, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional import likelihoods, pixels
from genjax.functional.divergences import kl_normal
from genjax.nn.conv import Conv, halvings
from genjax.nn.mlp import MLP, one_hot

PLAYER = "vae"
Likelihood = Literal["discretised_logistic", "discretised_normal", "normal", "bernoulli"]


@dataclasses.dataclass(frozen=True)
class Config:
    """A variational autoencoder of images.

    Attributes:
      latent: dimensions of z.
      network: "conv" or "mlp", for both halves.
      width: channels of the first convolution, doubled at each halving.
      hidden: widths of the MLP's hidden layers, in the encoder's order; the decoder has them reversed.
      likelihood: of the image given z; "normal" is a density of the values in [-1, 1].
      scale: the spread of a logistic or normal: "pixel" (the decoder says it for each pixel), "shared"
        (one learned number; Rybkin et al. 2021, arXiv:2006.13202) or "fixed" (to `sigma`).
      sigma: that spread in units of the values in [-1, 1], at the start where it is learned.
      smallest: lower bound of a learned spread in the same units. A density needs one, or it grows
        without end on pixels that never change.
      beta: weight of the KL term in the loss (Higgins et al. 2017); 1 is the bound itself.
      conditional: encoder and decoder read the label, where the data has one.
    """

    latent: int = 16
    network: Literal["conv", "mlp"] = "conv"
    width: int = 32
    hidden: tuple[int, ...] = (400,)
    likelihood: Likelihood = "discretised_logistic"
    scale: Literal["pixel", "shared", "fixed"] = "pixel"
    sigma: float = 0.1
    smallest: float = 1e-3
    beta: float = 1.0
    conditional: bool = True

    def __post_init__(self):
        if self.latent < 1 or self.width < 1:
            raise ValueError(f"latent={self.latent} and width={self.width} must be at least 1")
        if not 0 < self.smallest < self.sigma:
            raise ValueError(f"smallest={self.smallest} must lie between 0 and sigma={self.sigma}")


class Encoder(nn.Module):
    """(image in [-1, 1], condition) -> mean and log standard deviation of z."""

    config: Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], condition: Float[Array, "B K"]
    ) -> tuple[Float[Array, "B Z"], Float[Array, "B Z"]]:
        c, rows = self.config, x.shape[0]
        if c.network == "mlp":
            h = jnp.concatenate([x.reshape(rows, -1), condition], -1)
            h = MLP(c.hidden, final=True, name="body")(h)
        else:
            h = nn.silu(Conv(c.width, name="in")(x))
            for i in range(halvings(*x.shape[1:3])):
                h = nn.silu(Conv(c.width * 2 ** (i + 1), (4, 4), (2, 2), name=f"down_{i}")(h))
            h = jnp.concatenate([h.reshape(rows, -1), condition], -1)
            h = MLP((8 * c.width,), final=True, name="body")(h)
        mean, log_std = jnp.split(nn.Dense(2 * c.latent, name="posterior")(h), 2, -1)
        return mean, log_std


class Decoder(nn.Module):
    """(z, condition) -> `outputs` numbers for every value of the image."""

    config: Config
    shape: tuple[int, int, int]
    outputs: int

    @nn.compact
    def __call__(
        self, z: Float[Array, "B Z"], condition: Float[Array, "B K"]
    ) -> Float[Array, "outputs B H W C"]:
        c, (H, W, C) = self.config, self.shape
        h = jnp.concatenate([z, condition], -1)
        if c.network == "mlp":
            h = MLP(c.hidden[::-1], final=True, name="body")(h)
            h = nn.Dense(math.prod(self.shape) * self.outputs, name="out")(h)
        else:
            n = halvings(H, W)
            low = (H // 2**n, W // 2**n, c.width * 2**n)
            h = MLP((8 * c.width, math.prod(low)), final=True, name="body")(h).reshape(-1, *low)
            for i in reversed(range(n)):
                h = nn.silu(Conv(c.width * 2**i, (4, 4), (2, 2), transpose=True, name=f"up_{i}")(h))
            h = Conv(C * self.outputs, name="out")(h)
        return jnp.moveaxis(h.reshape(-1, H, W, C, self.outputs), -1, 0)


class Pixels(NamedTuple):
    """What a decoder says of the pixels: functions of its output."""

    outputs: int
    log_prob: Callable[[jax.Array, jax.Array], jax.Array]
    mean: Callable[[jax.Array], jax.Array]
    draw: Callable[[jax.Array, jax.Array], jax.Array]


class VAE(nn.Module):
    """Both halves, and the spread that all pixels share where there is one."""

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
        """The logits, or the location (in [-1, 1]) and the log spread."""
        out, c = self.decoder(z, condition), self.config
        if c.likelihood == "bernoulli":
            return out
        raw = out[1:] if c.scale == "pixel" else jnp.zeros_like(out[:1])
        if c.scale == "shared":
            raw = raw + self.spread.reshape(1, 1, 1, 1, 1)
        if c.scale == "fixed":
            log_scale = raw + math.log(c.sigma)
        else:  # starts at sigma, never below `smallest`
            start = math.log(math.expm1((c.sigma - c.smallest) * 20.0))
            log_scale = jnp.log(nn.softplus(raw + start) / 20.0 + c.smallest)
        return jnp.concatenate([out[:1], log_scale])

    def __call__(self, image: jax.Array, condition: jax.Array) -> jax.Array:
        return self.decode(self.encode(image, condition)[0], condition)


def _pixels(config: Config, levels: int) -> Pixels:
    if config.likelihood == "bernoulli":
        return Pixels(
            1,
            lambda out, image: likelihoods.bernoulli(out[0], pixels.to_unit(image, levels)),
            lambda out: pixels.from_unit(nn.sigmoid(out[0]), levels),
            lambda key, out: (levels - 1) * jax.random.bernoulli(key, nn.sigmoid(out[0])).astype(jnp.uint8),
        )
    logistic = config.likelihood == "discretised_logistic"

    def log_prob(out: jax.Array, image: jax.Array) -> jax.Array:
        if config.likelihood == "normal":
            return likelihoods.normal(out[0], out[1], pixels.to_signed(image, levels))
        f = likelihoods.discretised_logistic if logistic else likelihoods.discretised_normal
        return f(out[0], out[1], image, levels)

    def draw(key: jax.Array, out: jax.Array) -> jax.Array:
        noise = jax.random.logistic if logistic else jax.random.normal
        return pixels.from_signed(out[0] + jnp.exp(out[1]) * noise(key, out[0].shape), levels)

    outputs = 2 if config.scale == "pixel" else 1
    return Pixels(outputs, log_prob, lambda out: pixels.from_signed(out[0], levels), draw)


def build(config: Config, spec: Spec, stages: dict[str, Any] | None = None) -> Model:
    """The model of the spec's images.

    Capabilities: sample (knobs `noise`: draw pixels instead of their location; `temperature` of the prior),
    likelihood (knob `samples`: importance samples, Burda et al. 2016), codec (codes {"latent": B Z}).
    The likelihood is a "bound" for discretised decoders, a "density" for the normal, and absent for
    grey values under a Bernoulli; on data of two levels that is a probability, and a bound too.

    Raises:
      ConfigError: the data has no images of whole levels.
    """
    if "image" not in spec or not spec["image"].levels:
        raise ConfigError(f"vae needs images of whole levels; the data has {sorted(spec.elements)}")
    shape, levels = spec["image"].shape, spec["image"].levels or 0
    classes = spec.classes() if config.conditional else 0
    pix = _pixels(config, levels)
    net = VAE(config, shape, levels, pix.outputs)  # type: ignore[arg-type]

    def run(variables: Variables, method: str, *args: Any) -> Any:
        return net.apply({"params": variables.params[PLAYER]}, *args, method=method)

    def condition(batch: Batch, rows: int) -> jax.Array:
        if not classes:
            return jnp.zeros((rows, 0), jnp.float32)
        return one_hot(batch["label"], classes)

    def init(key: jax.Array, batch: Batch, frozen: Any) -> Variables:
        args = batch["image"], condition(batch, batch["image"].shape[0])
        return Variables(params={PLAYER: net.init(key, *args)["params"]}, frozen=frozen)

    def posterior(variables: Variables, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        y = condition(batch, batch["image"].shape[0])
        return (*run(variables, "encode", batch["image"], y), y)

    def nats(variables: Variables, batch: Batch, z: jax.Array, y: jax.Array) -> Float[Array, " B"]:
        """-log p(image | z), summed over the pixels of each row."""
        return -pix.log_prob(run(variables, "decode", z, y), batch["image"]).sum((1, 2, 3))

    def objective(
        variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        mean, log_std, y = posterior(variables, batch)
        z = mean + jnp.exp(log_std) * _normal(keys, mean.shape[1])
        distortion, rate = nats(variables, batch, z, y), kl_normal(mean, log_std).sum(-1)
        mask = batch["mask"]
        metrics = {"distortion": Mean.of(distortion, mask), "kl": Mean.of(rate, mask)}
        if kind == "bound":
            bits = (distortion + rate) / (math.prod(shape) * math.log(2.0))
            metrics["bits_per_dim"] = Mean.of(bits, mask)
        return Mean.of(distortion + config.beta * rate, mask), Aux(variables.state, metrics)

    def likelihood(variables: Variables, batch: Batch, keys: Keys, *, samples: int = 1) -> tuple[Mean, Any]:
        """The ELBO's nats (KL in closed form) for one sample; the importance-weighted bound for more."""
        mean, log_std, y = posterior(variables, batch)

        def log_weight(k: jax.Array) -> jax.Array:
            noise = _normal(jax.vmap(jax.random.fold_in, (0, None))(keys, k), mean.shape[1])
            z = mean + jnp.exp(log_std) * noise
            ratio = 0.5 * (jnp.square(noise) - jnp.square(z)) + log_std
            return ratio.sum(-1) - nats(variables, batch, z, y)

        if samples == 1:
            z = mean + jnp.exp(log_std) * _normal(keys, mean.shape[1])
            total = nats(variables, batch, z, y) + kl_normal(mean, log_std).sum(-1)
        else:  # one sample at a time: memory does not grow with their number
            total = -likelihoods.log_mean_exp(jax.lax.map(log_weight, jnp.arange(samples)))
        mask = batch["mask"]
        return Mean(jnp.where(mask > 0, total, 0), math.prod(shape) * mask), {}

    def sample(
        variables: Variables, keys: Keys, prompt: Batch, *, noise: bool = False, temperature: float = 1.0
    ) -> Batch:
        rows = keys.shape[0]
        fold = lambda n: jax.vmap(jax.random.fold_in, (0, None))(keys, n)
        out = {}
        if classes:
            drawn = lambda: jax.vmap(lambda k: jax.random.randint(k, (), 0, classes))(fold(1))
            out["label"] = (prompt["label"] if "label" in prompt else drawn()).astype(jnp.int32)
        raw = run(variables, "decode", temperature * _normal(keys, config.latent), condition(out, rows))
        image = jax.vmap(pix.draw, (0, 1))(fold(2), raw) if noise else pix.mean(raw)
        return {"image": image, **out}

    def encode(variables: Variables, batch: Batch, keys: Keys | None = None) -> Batch:
        """{"latent": B Z} (the posterior's mean where there are no keys) and what else the batch has."""
        mean, log_std, _ = posterior(variables, batch)
        z = mean if keys is None else mean + jnp.exp(log_std) * _normal(keys, mean.shape[1])
        return {"latent": z, **{k: x for k, x in batch.items() if k != "image"}}

    def decode(variables: Variables, codes: Batch) -> Batch:
        z = codes["latent"]
        image = pix.mean(run(variables, "decode", z, condition(codes, z.shape[0])))
        return {"image": image, **{k: x for k, x in codes.items() if k != "latent"}}

    discrete = config.likelihood.startswith("discretised") or (
        config.likelihood == "bernoulli" and levels == 2
    )
    kind = "bound" if discrete else "density"
    return Model(
        init=init,
        phases={"vae": Phase(PLAYER, objective)},
        sample=sample,
        likelihood=None if config.likelihood == "bernoulli" and not discrete else likelihood,
        likelihood_kind=kind,
        codec=Codec(encode, decode),
    )


def _normal(keys: Keys, size: int) -> Float[Array, "B size"]:
    """Standard normal noise: row i is a function of key i alone."""
    return jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys)
