"""Gaussian mixture over real-valued vectors or arrays, learned by online EM.

It is the density that is fitted to the codes of a finished codec, such as a regularised autoencoder (Ghosh et
al. 2020, arXiv:1903.12436, sec. 4) or a VAE, whose aggregate posterior is not its prior:
model.name="latent", model.prior.name="mixture".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from genjax.config import NotNegative, Positive, Range, Width
from genjax.core import Aux, Batch, Element, Keys, Mean, Model, Phase, Spec, Tree, Variables, across
from genjax.errors import ConfigError
from genjax.functional import quantise
from genjax.functional.noise import fold, normal
from genjax.nn.conditions import ClassLabel

PLAYER = "mixture"
MOST = 512
"""Largest number of dimensions: covariances are whole matrices."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a Gaussian mixture.

    Attributes:
      components: K, of each class.
      forget: exponent of the step size (n + 2)^-forget of step n (Cappe & Moulines 2009, arXiv:0712.4273,
        sec. 3.1), in (0.5, 1].
      ridge: added to the variances.
      conditional: each class has a mixture of its own if the data has a class label as a condition.
    """

    components: Width = 10
    forget: Annotated[float, Range(above=0.5, most=1)] = 0.7
    ridge: Positive = 1e-4
    conditional: bool = True


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the mixture of the spec's first real-valued target. It has no parameters: all is in the state.

    Raises:
      ConfigError: the data has no such target, or one of too many dimensions.
    """
    del stages
    name = next((n for n in spec.targets if not spec[n].levels and None not in spec[n].shape), None)
    if name is None:
        raise ConfigError(
            f"mixture needs real values as the target; the data has {sorted(spec.elements)}",
            "choose such data, or another model",
        )
    element = spec[name]
    size = math.prod(element.shape)  # type: ignore[arg-type]
    if size > MOST:
        raise ConfigError(
            f"mixture: {name} has {size} dimensions, and covariances of more than {MOST} are not supported",
            "use a codec with fewer, or another prior",
        )
    m = _Mixture(config, name, element, size, ClassLabel.of(spec, config.conditional))
    return Model(
        init=m.init,
        phases={"nll": Phase(PLAYER, m.objective, rowwise=False)},
        fit=m.fit,
        sample=m.sample,
        likelihood=m.likelihood,
        likelihood_kind="density",
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Mixture:
    """Implement the contract on the element `name`.

    The state holds averages per row: `weight` (C, K), of the responsibilities; `first` (C, K, D) and `second`
    (C, K, D, D), of the responsibilities times x and x x^T. C is the number of classes, or 1.
    """

    config: Config
    name: str
    element: Element
    size: int
    label: ClassLabel

    @property
    def classes(self) -> int:
        return max(self.label.classes, 1)

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        """Return components of unit variance with means near 0."""
        shape = (self.classes, self.config.components)
        mean = 0.1 * jax.random.normal(key, (*shape, self.size))
        return Variables({PLAYER: {}}, self.state_of(mean, jnp.eye(self.size)), frozen=frozen)

    def state_of(self, mean: Float[Array, "C K D"], covariance: Float[Array, "D D"]) -> Tree:
        """Return the averages of equally likely components with these means and one covariance."""
        weight = jnp.full(mean.shape[:2], 1.0 / math.prod(mean.shape[:2]))
        second = covariance[None, None] + mean[..., :, None] * mean[..., None, :]
        return {
            "weight": weight,
            "first": weight[..., None] * mean,
            "second": weight[..., None, None] * second,
        }

    def rows(self, batch: Batch) -> Float[Array, "B D"]:
        x = batch[self.name]
        # Padding may hold NaN, which a responsibility of 0 would not remove.
        return jnp.where(batch["mask"][:, None] > 0, x.reshape(x.shape[0], self.size), 0.0)

    def member(self, batch: Batch, count: int) -> Float[Array, "B C"]:
        """Return the class of each row one-hot; a column of ones without classes."""
        return self.label.one_hot(batch, count) if self.label.classes else jnp.ones((count, 1))

    def fit(self, variables: Variables, batch: Batch, keys: Keys) -> Variables:
        """Start from the means of k-means on these rows, which all classes share, and their variances."""
        del keys
        x = self.rows(batch)
        weight = batch["mask"]
        means = quantise.kmeans(x, weight, self.config.components, 10)
        # Components whose means coincide would stay equal for ever.
        spread = jnp.sqrt(_variance(x, weight))
        offset = jax.random.normal(jax.random.key(0), (self.classes, *means.shape))
        means = means[None] + 0.1 * spread[None, None] * offset
        return variables.replace(state=self.state_of(means, jnp.diag(jnp.square(spread) + self.config.ridge)))

    def components(
        self, state: Tree
    ) -> tuple[Float[Array, "C K"], Float[Array, "C K D"], Float[Array, "C K D D"]]:
        """Return (log of the weights within a class, means, Cholesky factors of the covariances)."""
        weight = jnp.maximum(state["weight"], 1e-8)
        mean = state["first"] / weight[..., None]
        covariance = state["second"] / weight[..., None, None] - mean[..., :, None] * mean[..., None, :]
        factor = jnp.linalg.cholesky(covariance + self.config.ridge * jnp.eye(self.size)[None, None])
        # A component without rows may lose its positive definiteness to rounding.
        broken = jnp.isnan(factor).any((-1, -2), keepdims=True)
        factor = jnp.where(broken, jnp.eye(self.size)[None, None], factor)
        return jnp.log(weight) - jnp.log(weight.sum(-1, keepdims=True)), mean, factor

    def log_joint(self, state: Tree, x: Float[Array, "B D"]) -> Float[Array, "B C K"]:
        """Compute log p(component | class) + log p(x | component) for every class and component."""
        log_weight, mean, factor = self.components(state)
        each = jax.vmap(jax.vmap(_log_normal, (None, 0, 0), 1), (None, 0, 0), 1)(x, mean, factor)
        return log_weight[None] + each

    def log_prob(self, state: Tree, batch: Batch) -> tuple[Float[Array, " B"], Float[Array, "B C K"]]:
        """Return (log p(x | class) per row, responsibilities, which are 0 for other classes)."""
        x = self.rows(batch)
        member = self.member(batch, x.shape[0])
        joint = self.log_joint(state, x)
        joint = jnp.where(member[..., None] > 0, joint, -jnp.inf)
        flat = joint.reshape(x.shape[0], -1)
        return jax.nn.logsumexp(flat, -1), jax.nn.softmax(flat, -1).reshape(joint.shape)

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Return -log p(x) per dimension, and the averages moved towards those of this batch."""
        mask = batch["mask"]
        log_p, responsibility = self.log_prob(variables.state, batch)
        loss = Mean.of(-log_p / self.size, mask)
        if step is None:
            return loss, Aux(variables.state)
        x = self.rows(batch)
        r = responsibility * mask[:, None, None]
        sums = {
            "weight": r.sum(0),
            "first": jnp.einsum("bck,bd->ckd", r, x),
            "second": jnp.einsum("bck,bd,be->ckde", r, x, x),
        }
        count = across(mask.sum())
        rate = (step.astype(jnp.float32) + 2.0) ** -self.config.forget
        # A batch of padding alone changes nothing.
        rate = jnp.where(count > 0, rate, 0.0)
        new = {k: across(v) / jnp.maximum(count, 1.0) for k, v in sums.items()}
        state = {k: old + rate * (new[k] - old) for k, old in variables.state.items()}
        return loss, Aux(jax.lax.stop_gradient(state))

    def likelihood(self, variables: Variables, batch: Batch, keys: Keys) -> tuple[Mean, dict]:
        """Compute the nats per row."""
        mask = batch["mask"]
        log_p, _ = self.log_prob(variables.state, batch)
        return Mean(jnp.where(mask > 0, -log_p, 0.0), self.size * mask), {}

    def sample(
        self, variables: Variables, keys: Keys, prompt: Batch, *, temperature: NotNegative = 1.0
    ) -> Batch:
        """Draw rows; labels that are not given are random.

        Args:
          temperature: factor on the standard deviation within a component.
        """
        label = self.label.drawn(prompt, keys)
        log_weight, mean, factor = self.components(variables.state)
        own = self.member(label, keys.shape[0]).argmax(-1)
        chosen = jax.vmap(jax.random.categorical)(fold(keys, 2), log_weight[own])
        noise = temperature * normal(keys, (self.size,))
        x = mean[own, chosen] + jnp.einsum("bde,be->bd", factor[own, chosen], noise)
        return {self.name: x.reshape(-1, *self.element.shape), **label}  # type: ignore[misc]


def _log_normal(
    x: Float[Array, "B D"], mean: Float[Array, " D"], factor: Float[Array, "D D"]
) -> Float[Array, " B"]:
    """Compute log N(x; mean, L L^T)."""
    white = solve_triangular(factor, (x - mean[None]).T, lower=True)
    log_det = jnp.log(jnp.diag(factor)).sum()
    return -0.5 * (jnp.square(white).sum(0) + x.shape[1] * math.log(2 * math.pi)) - log_det


def _variance(x: Float[Array, "B D"], weight: Float[Array, " B"]) -> Float[Array, " D"]:
    """Compute the variance of each dimension over the rows that count."""
    count = jnp.maximum(weight.sum(), 1.0)
    mean = (x * weight[:, None]).sum(0) / count
    return (jnp.square(x - mean[None]) * weight[:, None]).sum(0) / count
