"""Codecs of discrete codes: VQ-VAE (van den Oord et al. 2017, arXiv:1711.00937) and its relatives.

The encoder's features are quantised by a codebook of moving averages, by several in turn (residual VQ), by
rounding (FSQ), by signs (LFQ), or drawn from a relaxed categorical (the dVAE of DALL-E). `adversary` makes it
a VQ-GAN. With a prior over the codes it is a generative model: model.name="latent".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Count, Layers, Natural, NotNegative, Positive, Range, Rate, Width
from genjax.core import Aux, Batch, Codec, Element, Keys, Mean, Model, Phase, Spec, Tree, Variables
from genjax.errors import ConfigError
from genjax.functional import pixels, quantise
from genjax.functional.decoded_pixels import DecodedPixels
from genjax.nn import quantisers
from genjax.nn.adversary import Adversary, Sharpener, with_last
from genjax.nn.image_codec import ImageDecoder, ImageEncoder
from genjax.nn.quantisers import Quantiser

PLAYER = "codec"
CODES = "codes"
"""The name of the codes."""
QUANTISER = "quantiser"
"""The quantiser's part of the state."""
MEAN = "mean"
"""The part of the state that holds the mean of real images, (H, W, C)."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a codec of images.

    Attributes:
      quantiser: "vector" (VQ, averages), "scalar" (FSQ), "signs" (LFQ) or "gumbel" (dVAE).
      codes: K, entries of a codebook; of "signs" a power of two.
      features: D, channels of a code ("vector" and "gumbel").
      depth: codebooks in turn (residual VQ), codes per position ("vector").
      levels: values of each channel ("scalar"), at least 3; K is their product.
      halvings: how often the image is halved; each position of the last grid has a code.
      width: channels of the first convolution.
      blocks: residual blocks on the grid.
      likelihood: of the pixels given the codes, with one learned scale: "discretised_logistic", or "normal",
        whose loss is the squared error of the paper up to that scale.
      smallest: lower bound of the scale, in units of the values in [-1, 1].
      commitment: weight beta of the distance between features and codes ("vector" and "signs").
      decay: of the codebook's averages ("vector").
      revive: codes with fewer features per step than this are replaced ("vector"); 0 for never.
      rounds: of k-means on real rows, before the first step ("vector").
      entropy: weight of the entropy penalty ("signs").
      kl: weight of the KL divergence from the uniform distribution, per position ("gumbel").
      anneal: steps in which the temperature falls ("gumbel").
      adversary: the adversarial and the perceptual loss of a VQ-GAN; neither by default.
    """

    quantiser: Literal["vector", "scalar", "signs", "gumbel"] = "vector"
    codes: Annotated[int, Range(least=2, most=2**18)] = 256
    features: Width = 16
    depth: Layers = 1
    levels: tuple[Annotated[int, Range(least=3, most=1000)], ...] = (8, 6, 5)
    halvings: Natural = 2
    width: Width = 32
    blocks: Natural = 2
    likelihood: Literal["discretised_logistic", "normal"] = "discretised_logistic"
    smallest: Positive = 1e-3
    commitment: NotNegative = 0.25
    decay: Rate = 0.99
    revive: NotNegative = 0.1
    rounds: Natural = 10
    entropy: NotNegative = 0.1
    kl: NotNegative = 0.01
    anneal: Count = 5000
    adversary: Adversary = dataclasses.field(default_factory=Adversary)


USED = {
    "vector": ("codes", "features", "depth", "commitment", "decay", "revive", "rounds"),
    "scalar": ("levels",),
    "signs": ("codes", "commitment", "entropy"),
    "gumbel": ("codes", "features", "kl", "anneal"),
}
"""Fields of the config that a quantiser has."""


def quantiser_of(config: Config) -> Quantiser:
    """Return the quantiser that the config names.

    Raises:
      ConfigError: a field that it does not have was changed, or its codes are not whole bits.
    """
    used = USED[config.quantiser]
    for field in sorted({name for names in USED.values() for name in names} - set(used)):
        if getattr(config, field) != Config.__dataclass_fields__[field].default:
            raise ConfigError(
                f"model.{field} has no effect on the quantiser {config.quantiser!r}", "leave it out"
            )
    if config.quantiser == "scalar":
        if not config.levels:
            raise ConfigError("model.levels is empty", "give the number of values of each channel")
        return quantisers.Scalars(config.levels)
    if config.quantiser == "signs":
        bits = config.codes.bit_length() - 1
        if config.codes != 2**bits:
            raise ConfigError(
                f"model.codes={config.codes} is not a power of two", f"try {2**bits} or {2 ** (bits + 1)}"
            )
        return quantisers.Signs(bits, config.commitment, config.entropy)
    if config.quantiser == "gumbel":
        return quantisers.Gumbel(config.codes, config.features, config.kl, config.anneal)
    return quantisers.Vector(
        config.codes,
        config.features,
        config.depth,
        config.commitment,
        config.decay,
        config.revive,
        config.rounds,
    )


class Network(nn.Module):
    """Hold encoder and decoder, and the scale that all pixels share.

    Attributes:
      config: of the model.
      features: F, of the quantiser.
      channels: of the images.
    """

    config: Config
    features: int
    channels: int

    def setup(self):
        c = self.config
        self.encoder = ImageEncoder(self.features, c.width, c.halvings, c.blocks)
        self.decoder = ImageDecoder(self.channels, c.width, c.halvings, c.blocks)
        self.spread = self.param("spread", nn.initializers.zeros, ())

    def encode(self, image: Float[Array, "B H W C"]) -> Float[Array, "B h w F"]:
        return self.encoder(image)

    def decode(self, q: Float[Array, "B h w D"], mean: Float[Array, "H W C"]) -> Float[Array, "2 B H W C"]:
        """Return the location (in [-1, 1]) and the log scale of every pixel.

        Args:
          mean: of real images, where the location starts. A decoder that had to learn it first would do
            without the codes meanwhile.
        """
        location = self.decoder(q) + mean[None]
        # Starts at about 0.2, and never falls below `smallest`.
        scale = nn.softplus(self.spread - 1.5) + self.config.smallest
        return jnp.stack([location, jnp.broadcast_to(jnp.log(scale), location.shape)])

    def __call__(self, image: Float[Array, "B H W C"], q: Float[Array, "B h w D"]) -> tuple[Any, Any]:
        return self.encode(image), self.decode(q, jnp.zeros(image.shape[1:]))


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the codec of the spec's first quantised image.

    Raises:
      ConfigError: the data has no images of whole levels, they cannot be halved as often as
        `config.halvings` says, or a field has no effect.
    """
    name = pixels.quantised_image(spec, "vqvae")
    element = spec[name]
    if any(not side or side % 2**config.halvings for side in element.shape[:2]):
        raise ConfigError(
            f"model.halvings={config.halvings}: images of {element.shape[:2]} cannot be halved so often",
            "give fewer",
        )
    quantiser = quantiser_of(config)
    network = Network(config, quantiser.features, element.shape[2])  # type: ignore[arg-type]
    distribution = DecodedPixels(config.likelihood, element.levels or 0)
    sharpener = Sharpener.of(config.adversary, stages, name, element.levels or 0)
    m = _VQVAE(config, name, element, quantiser, network, distribution, sharpener)
    phases = {"reconstruction": Phase(PLAYER, m.objective, rowwise=False)}
    if sharpener is not None:
        phases |= {phase: Phase(player, m.discriminate) for phase, player in sharpener.phases.items()}
    return Model(
        init=m.init,
        phases=phases,
        fit=m.fit,
        likelihood_kind="bound" if distribution.discrete else "density",
        codec=Codec(m.encode, m.decode, m.code_spec, m.nats),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _VQVAE:
    """Implement the contract on the image `name`.

    The state holds that of the quantiser, and the mean of real images.
    """

    config: Config
    name: str
    element: Element
    quantiser: Quantiser
    network: Network
    pixels: DecodedPixels
    sharpener: Sharpener | None

    @property
    def grid(self) -> tuple[int, int]:
        height, width, _ = self.element.shape  # type: ignore[misc]
        return height // 2**self.config.halvings, width // 2**self.config.halvings

    @property
    def dims(self) -> int:
        return math.prod(self.element.shape)  # type: ignore[arg-type]

    def code_spec(self, spec: Spec) -> Spec:
        """Return the spec with `codes`, a grid of integers below K, in the place of the image."""
        codes = Element((*self.grid, *self.quantiser.grid), "int32", self.quantiser.size, role="target")
        items = spec.elements.items()
        elements = dict((CODES, codes) if name == self.name else (name, e) for name, e in items)
        return dataclasses.replace(spec, elements=elements)

    def apply(self, network: Tree, method: str, *args: Any) -> Any:
        return self.network.apply({"params": network}, *args, method=method)

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        first, second, third = jax.random.split(key, 3)
        image = pixels.to_signed(batch[self.name][:1], self.element.levels or 2)
        params = self.quantiser.params(second)
        state = self.quantiser.state(third, batch[self.name].shape[0] * math.prod(self.grid))
        start = jnp.zeros((1, *self.grid, *self.quantiser.grid), jnp.int32)
        q = self.quantiser.codes(params, state, start)
        network = self.network.init(first, image, q)["params"]
        players = {PLAYER: {"network": network, "quantiser": params}}
        if self.sharpener is not None:
            players |= self.sharpener.init(jax.random.fold_in(key, 1), batch)
        mean = jnp.zeros(self.element.shape)  # type: ignore[arg-type]
        return Variables(players, {QUANTISER: state, MEAN: mean}, frozen=frozen)

    def signed(self, batch: Batch) -> Float[Array, "B H W C"]:
        """Return the images in [-1, 1]."""
        return pixels.to_signed(batch[self.name], self.element.levels or 2)

    def features(self, variables: Variables, batch: Batch) -> Float[Array, "B h w F"]:
        return self.apply(variables.params[PLAYER]["network"], "encode", self.signed(batch))

    def fit(self, variables: Variables, batch: Batch, keys: Keys) -> Variables:
        """Fit the quantiser on the features of real rows, and the mean on their images."""
        del keys
        mask = batch["mask"]
        fitted = self.quantiser.fit(variables.state[QUANTISER], self.features(variables, batch), mask)
        mean = jnp.tensordot(mask, self.signed(batch), 1) / jnp.maximum(mask.sum(), 1.0)
        return variables.replace(state={QUANTISER: fitted, MEAN: mean})

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        z = self.features(variables, batch)
        mask = batch["mask"]
        params = variables.params[PLAYER]["quantiser"]
        coded = self.quantiser.quantise(params, variables.state[QUANTISER], z, mask, keys, step)
        out = self.reconstructed(variables, coded.q)
        distortion = -self.pixels.log_prob(out, batch[self.name]).sum((1, 2, 3))
        squared_error = jnp.square(jnp.clip(out[0], -1, 1) - self.signed(batch))
        used = jax.vmap(quantise.perplexity)(quantisers.counts(variables.state[QUANTISER]))
        metrics = {
            "distortion": Mean.of(distortion, mask),
            "squared_error": Mean.of(squared_error.mean((1, 2, 3)), mask),
            "penalty": Mean.of(coded.penalty, mask),
            "perplexity": Mean.of(jnp.broadcast_to(used.mean(), mask.shape), mask),
        }
        extra, more = self.sharpened(variables, batch, coded.q, step)
        loss = distortion / self.dims + coded.penalty + extra
        state = {**variables.state, QUANTISER: coded.state}
        return Mean.of(loss, mask), Aux(state, {**metrics, **more})

    def reconstructed(self, variables: Variables, q: Float[Array, "B h w D"]) -> Float[Array, "2 B H W C"]:
        """Return the decoder's output for quantised features."""
        return self.apply(variables.params[PLAYER]["network"], "decode", q, variables.state[MEAN])

    def sharpened(
        self, variables: Variables, batch: Batch, q: Float[Array, "B h w D"], step: jax.Array | None
    ) -> tuple[Float[Array, " B"], dict[str, Mean]]:
        """Return the perceptual and the adversarial loss per row, and their metrics; nothing without them."""
        if self.sharpener is None:
            return jnp.zeros(q.shape[0]), {}
        network = variables.params[PLAYER]["network"]

        def decode(last: Tree) -> tuple[jax.Array, jax.Array]:
            out: Any = self.apply(with_last(network, last), "decode", q, variables.state[MEAN])
            return -self.pixels.log_prob(out, batch[self.name]).mean((1, 2, 3)), out[0]

        return self.sharpener.loss(variables, batch, decode, network["decoder"]["out"], 1.0, step)

    def discriminate(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Return the loss of the discriminator that tells images from their reconstructions."""
        del step
        assert self.sharpener is not None
        decoded = self.decoded(variables, self.encode(variables, batch))[0]
        return self.sharpener.discriminate(variables, batch, decoded)

    def encode(self, variables: Variables, batch: Batch, keys: Keys | None = None) -> Batch:
        """Return `codes` and the other elements; the same with and without keys."""
        del keys
        z = self.features(variables, batch)
        params = variables.params[PLAYER]["quantiser"]
        mask = jnp.ones(z.shape[0])
        coded = self.quantiser.quantise(params, variables.state[QUANTISER], z, mask, None, None)
        return {CODES: coded.index, **{k: x for k, x in batch.items() if k != self.name}}

    def decoded(self, variables: Variables, codes: Batch) -> Float[Array, "2 B H W C"]:
        params = variables.params[PLAYER]["quantiser"]
        q = self.quantiser.codes(params, variables.state[QUANTISER], codes[CODES])
        return self.reconstructed(variables, q)

    def decode(self, variables: Variables, codes: Batch) -> Batch:
        """Return the images at the location of p(x | codes), with the other elements of `codes`."""
        image = self.pixels.mean(self.decoded(variables, codes))
        return {self.name: image, **{k: x for k, x in codes.items() if k != CODES}}

    def nats(self, variables: Variables, batch: Batch, codes: Batch, keys: Keys) -> Float[Array, " B"]:
        """Compute -log p(x | codes) per row; the codes are a function of x, so that log q is 0."""
        del keys
        out = self.decoded(variables, codes)
        return -self.pixels.log_prob(out, batch[self.name]).sum((1, 2, 3))
