"""Variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114; Rezende et al. 2014, arXiv:1401.4082).

The posterior is a diagonal Gaussian. The decoder's distribution of a pixel is a discretised logistic, a
mixture of these or a discretised Gaussian over the levels (a likelihood of the data, in bits per dimension),
a Gaussian density, or the Bernoulli cross-entropy of grey values, which is a loss but not a likelihood. Real
values, such as points or the codes of another codec, have a Gaussian density.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import NotNegative
from genjax.core import Aux, Batch, Codec, Element, Keys, Mean, Model, Phase, Spec, Tree, Variables
from genjax.errors import ConfigError
from genjax.functional import bounds, likelihoods
from genjax.functional.decoded_pixels import DecodedPixels
from genjax.functional.divergences import kl_normal
from genjax.functional.noise import fold, normal
from genjax.functional.reductions import sum_row
from genjax.models._vae_config import Config
from genjax.nn.adversary import Sharpener, with_last
from genjax.nn.conditions import ClassLabel
from genjax.nn.image_vae import FITTED, VAE, Spread, log_odds, lowest

PLAYER = "vae"
CRITIC = "critic"
"""The player of a FactorVAE that tells q(z) from the product of its marginals."""
LATENT = "latent"
"""The name of the codes."""


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the model of the spec's first target that is a quantised image or an array of real values.

    The likelihood is a "bound" if the decoder is a distribution over levels, a "density" for the normal, and
    absent for grey values under a Bernoulli.

    Raises:
      ConfigError: the data has no such target, or the config does not fit it.
    """
    name = _target(config, spec)
    element = spec[name]
    distribution = DecodedPixels(config.likelihood, element.levels or 0, config.components)
    bounded = distribution.normalised and not config.point
    label = ClassLabel.of(spec, config.conditional)
    network = VAE(
        config.halves,
        Spread.for_pixels(distribution, config.scale, config.sigma, config.smallest, element.shape[-1] or 0),
        element.shape,  # type: ignore[arg-type]
        element.levels or 0,
        config.prior,
        label.classes,
    )
    sharpener = Sharpener.of(config.adversary, stages, name, element.levels or 0)
    m = _VAE(config, name, element, label, distribution, network, spec.rows, sharpener)
    rowwise = config.regulariser.rowwise and not config.adversary.weight
    phases = {"vae": Phase(PLAYER, m.objective, rowwise=rowwise)}
    if config.regulariser.critic:
        phases["critic"] = Phase(CRITIC, m.critic_objective, rowwise=False)
    if sharpener is not None:
        phases |= {phase: Phase(player, m.discriminate) for phase, player in sharpener.phases.items()}
    return Model(
        init=m.init,
        phases=phases,
        fit=m.fit if distribution.binary else None,
        sample=None if config.point else m.sample,
        likelihood=m.likelihood if bounded else None,
        likelihood_kind="bound" if distribution.discrete else "density",
        rate_distortion=m.rate_distortion if bounded else None,
        codec=Codec(m.encode, m.decode, m.code_spec, m.nats if bounded else None, m.expected),
    )


def _target(config: Config, spec: Spec) -> str:
    """Return the name of the modelled element.

    Raises:
      ConfigError: there is none, or the config does not fit it.
    """
    for name in spec.targets:
        shape = spec[name].shape
        if spec[name].levels and len(shape) == 3:
            return name
        if spec[name].levels is None and shape and None not in shape:
            if config.network != "mlp" or config.likelihood != "normal" or config.prior.kind == "vamp":
                raise ConfigError(
                    f"vae: {name} has real values",
                    "set model.network='mlp' and model.likelihood='normal', and no VampPrior",
                )
            return name
    raise ConfigError(
        "vae needs images of whole levels or real values as the target; "
        f"the data has {sorted(spec.elements)}",
        "choose such data, or another model",
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
    rows: int
    sharpener: Sharpener | None

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of z for one row."""
        if not self.config.spatial:
            return (self.config.latent,)
        height, width, _ = lowest(self.element.shape)  # type: ignore[arg-type]
        return (height, width, self.config.latent)

    def apply(self, variables: Variables, method: str, *args: Any) -> Any:
        return self.network.apply(self.tree(variables, variables.params[PLAYER]), *args, method=method)

    def tree(self, variables: Variables, params: Tree) -> Tree:
        """Return the network's collections."""
        return {"params": params, **({FITTED: variables.state} if variables.state else {})}

    def condition(self, batch: Batch) -> Float[Array, "B K"]:
        return self.label.one_hot(batch, batch[self.name].shape[0])

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        made = self.network.init(key, batch[self.name], self.condition(batch))
        params = {PLAYER: made["params"]}
        if self.config.regulariser.critic:
            params[CRITIC] = self.config.regulariser.init(jax.random.fold_in(key, 1), self.config.latent)
        if self.sharpener is not None:
            params |= self.sharpener.init(jax.random.fold_in(key, 2), batch)
        return Variables(params, made.get(FITTED, {}), frozen=frozen)

    def fit(self, variables: Variables, batch: Batch, keys: Keys) -> Variables:
        """Fit the logits that the decoder starts at."""
        del keys
        offset = log_odds(batch[self.name], batch["mask"], self.element.levels or 2)
        return variables.replace(state={"offset": offset})

    def posterior(self, variables: Variables, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Return mean and log standard deviation of q(z | x)."""
        return self.apply(variables, "encode", batch[self.name], self.condition(batch))

    def distortion(self, variables: Variables, batch: Batch, z: Float[Array, "B *Z"]) -> Float[Array, " B"]:
        """Compute -log p(x | z) per row."""
        out = self.apply(variables, "decode", z, self.condition(batch))
        return -sum_row(self.pixels.log_prob(out, batch[self.name]))

    def rate(
        self,
        variables: Variables,
        batch: Batch,
        mean: Float[Array, "B *Z"],
        log_std: Float[Array, "B *Z"],
        z: Float[Array, "B *Z"],
    ) -> Float[Array, " B"]:
        """Compute KL(q || p) per row: in closed form for a normal prior, else an estimate from the draw z.

        Of a point it is |z|^2 / 2, the part of the KL term that depends on the mean.
        """
        if self.config.point:
            return 0.5 * sum_row(jnp.square(mean))
        if self.config.prior.kind == "normal":
            return sum_row(kl_normal(mean, log_std))
        log_p = self.apply(variables, "prior_log_prob", z, self.condition(batch))
        return sum_row(likelihoods.normal(mean, log_std, z)) - log_p

    # --- learning --------------------------------------------------------------------------------------

    def elbo(
        self, variables: Variables, batch: Batch, keys: Keys, draws: int = 1
    ) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """Return (-log p(x | z), KL(q || p)) per row, averaged over the draws of z."""
        mean, log_std = self.posterior(variables, batch)

        def one(keys: Keys) -> tuple[jax.Array, jax.Array]:
            z = mean + jnp.exp(log_std) * normal(keys, self.shape)
            return self.distortion(variables, batch, z), self.rate(variables, batch, mean, log_std, z)

        if draws == 1:
            return one(keys)
        distortion, rate = jax.vmap(lambda k: one(fold(keys, k)))(jnp.arange(draws))
        return distortion.mean(0), rate.mean(0)

    def log_weights(
        self, variables: Variables, batch: Batch, keys: Keys, learner: str = "both"
    ) -> Float[Array, "M K B"]:
        """Compute log p(x, z) - log q(z | x) for M groups of K draws, all at once.

        Args:
          learner: whose parameters are not constant: "decoder" (with the prior), "encoder" (through the draws
            of z, and through log q except for the doubly reparametrised gradient), or "both".
        """
        bound = self.config.bound
        constant = jax.lax.stop_gradient(variables)
        generative = constant if learner == "encoder" else variables
        mean, log_std = self.posterior(constant if learner == "decoder" else variables, batch)
        density = (mean, log_std)
        if learner == "encoder" and bound.kind == "dreg":
            density = jax.lax.stop_gradient(density)

        def one(k: jax.Array) -> jax.Array:
            z = mean + jnp.exp(log_std) * normal(fold(keys, k), self.shape)
            return self.log_weight(generative, batch, z, *density)

        flat = jax.vmap(one)(jnp.arange(bound.groups * bound.samples))
        return flat.reshape(bound.groups, bound.samples, -1)

    def log_weight(
        self,
        variables: Variables,
        batch: Batch,
        z: Float[Array, "B *Z"],
        mean: Float[Array, "B *Z"],
        log_std: Float[Array, "B *Z"],
    ) -> Float[Array, " B"]:
        """Compute log p(x | z) + log p(z) - log q(z | x) per row."""
        log_p = self.apply(variables, "prior_log_prob", z, self.condition(batch))
        return log_p - sum_row(likelihoods.normal(mean, log_std, z)) - self.distortion(variables, batch, z)

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        if self.config.bound.kind != "elbo":
            return self.weighted_objective(variables, batch, keys)
        mask = batch["mask"]
        distortion, rate = self.elbo(variables, batch, keys, self.config.bound.groups)
        metrics = {"distortion": Mean.of(distortion, mask), "kl": Mean.of(rate, mask)}
        if self.pixels.discrete and not self.config.point:
            metrics["bits_per_dim"] = Mean.of(self.bits(distortion + rate), mask)
        loss = distortion + self.config.beta * rate
        mean, log_std = self.posterior(variables, batch)
        z = mean + jnp.exp(log_std) * normal(keys, self.shape)
        extra, more = self.sharpened(variables, batch, z, step)
        loss = loss + extra
        metrics |= more
        if self.config.regulariser.kind == "kl":
            return Mean.of(loss, mask), Aux(variables.state, metrics)
        if self.config.regulariser.kind == "gradient":
            slope = self.squared_gradient(variables, batch, z, keys)
            metrics["squared_gradient"] = Mean.of(slope, mask)
            return Mean.of(loss + self.config.regulariser.weight * slope, mask), Aux(variables.state, metrics)
        extra, more = self.config.regulariser.penalty(
            variables.params.get(CRITIC), (z, mean, log_std, rate), mask, keys, self.rows, step
        )
        return Mean.of(loss + extra, mask), Aux(variables.state, {**metrics, **more})

    def squared_gradient(
        self, variables: Variables, batch: Batch, z: Float[Array, "B *Z"], keys: Keys
    ) -> Float[Array, " B"]:
        """Estimate the squared Frobenius norm of the decoder's Jacobian at z, per row.

        For noise v of unit variance, the mean of |J^T v|^2 is |J|^2 (Hutchinson): one product per row.
        """
        location, pull = jax.vjp(lambda z: self.apply(variables, "decode", z, self.condition(batch))[0], z)
        (slope,) = pull(normal(fold(keys, 7), location.shape[1:]))
        return sum_row(jnp.square(slope))

    def sharpened(
        self, variables: Variables, batch: Batch, z: Float[Array, "B *Z"], step: jax.Array | None
    ) -> tuple[Float[Array, " B"], dict[str, Mean]]:
        """Return the perceptual and the adversarial loss per row, and their metrics; nothing without them."""
        if self.sharpener is None:
            return jnp.zeros(z.shape[0]), {}
        network = variables.params[PLAYER]

        def decode(last: Tree) -> tuple[jax.Array, jax.Array]:
            tree = self.tree(variables, with_last(network, last))
            out: Any = self.network.apply(tree, z, self.condition(batch), method="decode")
            return -sum_row(self.pixels.log_prob(out, batch[self.name])), self.pixels.signed(out)

        return self.sharpener.loss(variables, batch, decode, network["decoder"]["out"], self.size, step)

    def discriminate(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Return the loss of the discriminator that tells images from their reconstructions."""
        del step
        assert self.sharpener is not None
        image = self.pixels.signed(self.decoded(variables, self.encode(variables, batch, keys)))
        return self.sharpener.discriminate(variables, batch, image)

    def weighted_objective(self, variables: Variables, batch: Batch, keys: Keys) -> tuple[Mean, Aux]:
        """Return minus the importance-weighted bound."""
        weights = functools.partial(self.log_weights, variables, batch, keys)
        nats = -bounds.of_two(self.config.bound, weights)
        mask = batch["mask"]
        metrics = {"nats": Mean.of(nats, mask)}
        if self.pixels.discrete:
            metrics["bits_per_dim"] = Mean.of(self.bits(nats), mask)
        return Mean.of(nats, mask), Aux(variables.state, metrics)

    def critic_objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Return the loss of the critic that tells q(z) from the product of its marginals."""
        del step
        mean, log_std = jax.lax.stop_gradient(self.posterior(variables, batch))
        z = mean + jnp.exp(log_std) * normal(keys, self.shape)
        loss = self.config.regulariser.critic_loss(variables.params[CRITIC], z, batch["mask"], keys)
        return Mean.of(loss, batch["mask"]), Aux(variables.state)

    def bits(self, nats: Float[Array, " B"]) -> Float[Array, " B"]:
        """Return bits per dimension."""
        return nats / (self.size * math.log(2.0))

    @property
    def size(self) -> int:
        """Return the number of values of a row."""
        return math.prod(self.element.shape)  # type: ignore[arg-type]

    # --- likelihood and samples ------------------------------------------------------------------------

    def likelihood(
        self, variables: Variables, batch: Batch, keys: Keys, *, samples: bounds.Draws = 1
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
        return Mean(jnp.where(mask > 0, total, 0), self.size * mask), {}

    def rate_distortion(self, variables: Variables, batch: Batch, keys: Keys) -> tuple[Mean, Mean]:
        """Compute KL(q || p) and -log p(x | z) per row: their sum is the likelihood of one draw."""
        distortion, rate = self.elbo(variables, batch, keys)
        mask = batch["mask"]
        mean = lambda x: Mean(jnp.where(mask > 0, x, 0), self.size * mask)
        return mean(rate), mean(distortion)

    def importance_weighted(
        self, variables: Variables, batch: Batch, keys: Keys, samples: int
    ) -> Float[Array, " B"]:
        """Compute log of the mean of p(x, z) / q(z | x) over samples of z, per row."""
        mean, log_std = self.posterior(variables, batch)

        def one(k: jax.Array) -> Float[Array, " B"]:
            z = mean + jnp.exp(log_std) * normal(fold(keys, k), self.shape)
            return self.log_weight(variables, batch, z, mean, log_std)

        return likelihoods.log_mean_exp_of(one, samples, mean.shape[0])

    def sample(
        self,
        variables: Variables,
        keys: Keys,
        prompt: Batch,
        *,
        noise: bool | None = None,
        temperature: NotNegative = 1.0,
    ) -> Batch:
        """Draw rows; labels that are not given are random.

        Args:
          noise: draw the values given z instead of taking their location; None for real values only.
          temperature: standard deviation of the noise that the prior of z is drawn from.
        """
        label = self.label.drawn(prompt, keys)
        noise_z = temperature * normal(keys, self.shape)
        condition = self.label.one_hot(label, keys.shape[0])
        z = self.apply(variables, "prior_draw", noise_z, fold(keys, 3), condition)
        out = self.apply(variables, "decode", z, condition)
        noise = not self.element.levels if noise is None else noise
        x = jax.vmap(self.pixels.draw, (0, 1))(fold(keys, 2), out) if noise else self.pixels.mean(out)
        return {self.name: x, **label}

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
        return {self.name: self.pixels.mean(self.decoded(variables, codes)), **_without(codes, LATENT)}

    def decoded(self, variables: Variables, codes: Batch) -> Float[Array, "outputs B *X"]:
        """Return the decoder's output for the codes."""
        z = codes[LATENT]
        return self.apply(variables, "decode", z, self.label.one_hot(codes, z.shape[0]))

    def expected(self, variables: Variables, codes: Batch) -> Batch:
        """Return the location of p(x | z) in units of levels, not rounded."""
        return {self.name: self.pixels.location(self.decoded(variables, codes))}

    def nats(self, variables: Variables, batch: Batch, codes: Batch, keys: Keys) -> Float[Array, " B"]:
        """Compute -log p(x | z) + log q(z | x) per row for z = codes["latent"]; draws nothing.

        With a prior's -log p(z), its mean over z ~ q(z | x) bounds -log p(x).
        """
        del keys
        mean, log_std = self.posterior(variables, batch)
        z = codes[LATENT]
        return self.distortion(variables, batch, z) + sum_row(likelihoods.normal(mean, log_std, z))


def _without(batch: Batch, name: str) -> Batch:
    return {k: x for k, x in batch.items() if k != name}
