"""Define what a variational autoencoder adds to the ELBO for the shape of its latent space."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Count, NotNegative, Width, check, unused
from genjax.core import Keys, Mean, Tree, gathered, own
from genjax.functional import aggregate
from genjax.functional.noise import fold, normal
from genjax.nn.mlp import MLP

Codes = tuple[Float[Array, "B Z"], Float[Array, "B Z"], Float[Array, "B Z"], Float[Array, " B"]]
"""(z, mean, log standard deviation, KL per row)."""
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Widths of the kernels of the MMD, as in the code of Tolstikhin et al. 2018."""


@dataclasses.dataclass(frozen=True)
class Regulariser:
    """Choose a regulariser of the latent space. All are added to the ELBO, in which beta weighs the KL term.

    Attributes:
      kind: "kl" (nothing is added); "capacity": weight |KL - C|, where C rises to `capacity` (Burgess et al.
        2018, arXiv:1804.03599, eq. 8; set beta=0); "tc": weight times the total correlation (beta-TCVAE,
        Chen et al. 2018, arXiv:1802.04942: its beta is weight + 1); "factor": weight times the total
        correlation as a critic estimates it (FactorVAE, Kim & Mnih 2018, arXiv:1802.05983); "mmd": weight
        times the MMD between q(z) and p(z) (InfoVAE, Zhao et al. 2019, arXiv:1706.02262; WAE-MMD, Tolstikhin
        et al. 2018, arXiv:1711.01558, with beta=0); "gradient": weight times the squared norm of the
        decoder's gradient (regularised autoencoders, Ghosh et al. 2020, arXiv:1903.12436, eq. 9).
      weight: of the regulariser.
      capacity: C at the end, in nats.
      rise: steps in which C rises from 0.
      width: of the critic's three hidden layers.
    """

    kind: Literal["kl", "capacity", "tc", "factor", "mmd", "gradient"] = "kl"
    weight: NotNegative = 0.0
    capacity: NotNegative = 25.0
    rise: Count = 10_000
    width: Width = 256

    def __post_init__(self):
        check(self)
        if self.kind == "kl":
            unused(self, "kind", "weight")
        if self.kind != "capacity":
            unused(self, "kind", "capacity", "rise")
        if self.kind != "factor":
            unused(self, "kind", "width")

    @property
    def critic(self) -> bool:
        """Return True if there is a second player."""
        return self.kind == "factor"

    @property
    def rowwise(self) -> bool:
        """Return True if the penalty of a row depends on that row alone."""
        return self.kind in ("kl", "capacity", "gradient")

    def check_fits(self, prior: str, spatial: bool) -> None:
        """Refuse a prior or a latent space that the regulariser is not defined for.

        Raises:
          ValueError: it is not.
        """
        if prior != "normal":
            raise ValueError(f"regulariser.kind={self.kind!r} needs prior.kind='normal', got {prior!r}")
        if spatial and not self.rowwise:
            raise ValueError(f"regulariser.kind={self.kind!r} needs spatial=False")

    def init(self, key: jax.Array, latent: int) -> Tree:
        """Return the parameters of the critic."""
        return self.network.init(key, jnp.zeros((1, latent)))["params"]

    @property
    def network(self) -> MLP:
        """Return the critic: z -> the log of the ratio of q(z) to the product of its marginals."""
        return MLP((self.width,) * 3 + (1,))

    def penalty(
        self,
        critic: Tree | None,
        codes: Codes,
        mask: Float[Array, " B"],
        keys: Keys,
        rows: int,
        step: jax.Array | None,
    ) -> tuple[Float[Array, " B"], dict[str, Mean]]:
        """Compute what is added per row, and its metrics.

        Args:
          codes: of these rows.
          rows: of the data set.
          step: None in evaluation, where a schedule is at its end.
        """
        z, mean, log_std, rate = codes
        if self.kind == "capacity":
            share = 1.0 if step is None else jnp.minimum(step / self.rise, 1.0)
            return self.weight * jnp.abs(rate - self.capacity * share), {}
        if self.kind == "mmd":
            drawn = normal(fold(keys, 5), z.shape[1:])
            every, noise, live = gathered((z, drawn, mask))
            value = aggregate.mmd(every, noise, live, SCALES)
            each = jnp.full(z.shape[0], 1.0) * value
            return self.weight * each, {"mmd": Mean.of(each, mask)}
        if self.kind == "tc":
            means, log_stds, live = gathered((mean, log_std, mask))
            parts = aggregate.kl_parts(z, mean, log_std, means, log_stds, live, rows)
            names = ("information", "total_correlation", "dimension_kl")
            metrics = {n: Mean.of(x, mask) for n, x in zip(names, parts, strict=True)}
            return self.weight * parts.correlation, metrics
        ratio = self.network.apply({"params": jax.lax.stop_gradient(critic)}, z)[:, 0]  # type: ignore[index]
        return self.weight * ratio, {"total_correlation": Mean.of(ratio, mask)}

    def critic_loss(
        self, critic: Tree, z: Float[Array, "B Z"], mask: Float[Array, " B"], keys: Keys
    ) -> Float[Array, " B"]:
        """Compute the cross-entropy of the critic per row, on z and on z with each dimension permuted.

        Kim & Mnih 2018, algorithm 2; but for one thing: there the permuted codes are of other rows.
        """
        logit = lambda x: self.network.apply({"params": critic}, x)[:, 0]  # type: ignore[index]
        shuffled = _permuted(z, mask, keys)
        return 0.5 * (jax.nn.softplus(-logit(z)) + jax.nn.softplus(logit(shuffled)))


def _permuted(z: Float[Array, "B Z"], mask: Float[Array, " B"], keys: Keys) -> Float[Array, "B Z"]:
    """Return z with each dimension permuted over the rows of the global batch that count.

    Every row draws one number per dimension; the order of these numbers is the permutation.
    """
    numbers = jax.vmap(lambda key: jax.random.uniform(key, z.shape[1:]))(fold(keys, 6))
    every, draws, live = gathered((z, numbers, mask))
    # Rows that do not count come last, and are given to rows that do not count.
    place = jnp.argsort(draws + 2.0 * (1.0 - live[:, None]), axis=0)
    order = jnp.argsort(1.0 - live, stable=True)
    mixed = jnp.zeros_like(every).at[order].set(jnp.take_along_axis(every, place, axis=0))
    return own(mixed, z.shape[0])
