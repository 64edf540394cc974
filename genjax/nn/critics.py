"""Make a critic of a network: its logit, and how it reads the class."""

from __future__ import annotations

from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

Reads = Literal["projection", "auxiliary", "concatenation"]


class Judgement(NamedTuple):
    """Hold what a critic says of rows.

    Attributes:
      logit: of being real.
      classes: logits of the classes, of an auxiliary classifier; None without one.
    """

    logit: Float[Array, " B"]
    classes: Float[Array, "B K"] | None


class Critic(nn.Module):
    """Judge rows: a network and a head.

    Attributes:
      network: maps (x, condition, train) to features.
      reads: "projection": the logit has the inner product of the features with the class's own direction
        (Miyato & Koyama 2018, arXiv:1802.05637, eq. 3); "auxiliary": the head also classifies (Odena et al.
        2017, arXiv:1610.09585); "concatenation": the input has the class in additional channels (Mirza &
        Osindero 2014, arXiv:1411.1784).
    """

    network: nn.Module
    reads: Reads

    @nn.compact
    def __call__(self, x: Float[Array, "B *shape"], condition: Float[Array, "B K"], train: bool) -> Judgement:
        classes = condition.shape[-1]
        if classes and self.reads == "concatenation":
            wide = condition.reshape(x.shape[0], *(1,) * (x.ndim - 2), classes)
            x = jnp.concatenate([x, jnp.broadcast_to(wide, (*x.shape[:-1], classes))], -1)
        h = self.network(x, condition, train)  # type: ignore[operator]
        logit = nn.Dense(1, name="out")(h)[:, 0]
        if classes and self.reads == "projection":
            direction = nn.Dense(h.shape[-1], use_bias=False, name="class")(condition)
            logit = logit + (h * direction).sum(-1)
        labels = nn.Dense(classes, name="labels")(h) if classes and self.reads == "auxiliary" else None
        return Judgement(logit, labels)
