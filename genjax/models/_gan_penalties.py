"""Compute what regularises the players of a GAN: gradient penalties, path lengths, consistency."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Aux, Batch, Keys, Mean, Variables, across
from genjax.functional import adversarial, augment
from genjax.functional.noise import fold, normal, uniform
from genjax.models._gan_players import GENERATOR, LENGTH, Players
from genjax.nn.critics import Judgement

DECAY = 0.99
"""Of that mean (Karras et al. 2020, sec. 3.2)."""


def of_gradient(
    gan: Players,
    variables: Variables,
    x: Float[Array, "B *shape"],
    fake: Float[Array, "B *shape"],
    y: Float[Array, "B K"],
    keys: Keys,
    mask: Float[Array, " P"],
    train: bool,
) -> tuple[Float[Array, " P"], dict[str, Mean]]:
    """Compute the penalties on the critic's gradient per pack of rows, and what they penalise."""
    c = gan.config
    # The sites of a row's augmentation are those of the loss, which the penalty then differentiates.
    logit = lambda n: lambda v: gan.judge(variables, v, y, train, fold(keys, n))[0].logit
    total = jnp.zeros(mask.shape)
    metrics = {}
    for name, gamma, rows, site in (("r1", c.r1, x, 31), ("r2", c.r2, fake, 32)):
        if gamma:
            squared = gan.by_pack(adversarial.squared_gradient(logit(site), rows))
            total = total + 0.5 * gamma * squared
            metrics[f"{name}_squared_gradient"] = Mean.of(squared, mask)
    if c.gradient_penalty:
        # One share for all rows of a pack.
        share = jnp.repeat(uniform(fold(keys, 5))[:: c.pack], c.pack)
        excess = adversarial.gradient_penalty(logit(33), x, fake, share, gan.by_pack)
        total = total + c.gradient_penalty * excess
        metrics["gradient_excess"] = Mean.of(excess, mask)
    return total, metrics


def consistency(
    gan: Players,
    variables: Variables,
    real: tuple[Float[Array, "B H W C"], Judgement],
    fake: tuple[Float[Array, "B H W C"], Judgement],
    y: Float[Array, "B K"],
    keys: Keys,
    mask: Float[Array, " P"],
) -> tuple[Float[Array, " P"], dict[str, Mean]]:
    """Compute (D(x) - D(T(x)))^2 of real and of generated images, where T shifts an image by a few pixels.

    Zhang et al. 2020 (arXiv:1910.12027), eq. 3, at real images; at generated ones too it is balanced (Zhao et
    al. 2021, arXiv:2002.04724, algorithm 1).

    Args:
      real, fake: images, and what the critic says of them.
    """
    total = jnp.zeros(mask.shape)
    metrics = {}
    pairs = (("real", gan.config.consistency, real, 31), ("fake", gan.config.consistency_fake, fake, 32))
    for name, weight, (x, before), site in pairs:
        if weight:
            shifted = augment.translated(fold(keys, site + 10), x, repeat=True)
            after, _ = gan.judge(variables, shifted, y, True, fold(keys, site))
            change = jnp.square(before.logit - after.logit)
            total = total + weight * change
            metrics[f"{name}_inconsistency"] = Mean.of(change, mask)
    return total, metrics


def path_length(
    gan: Players, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
) -> tuple[Mean, Aux]:
    """Compute (|J^T y| - a)^2 of styles w, where a is the running mean (Karras et al. 2020, eq. 4).

    J is the derivative of the image by w, and y is noise whose norm does not depend on the image's size.
    """
    del step
    mask = batch["mask"]
    tree = gan.collections(variables, GENERATOR)

    def run(method: str, *args: Any) -> Any:
        return gan.generator.apply(tree, *args, method=method)

    z = normal(fold(keys, 7), (gan.config.latent,))
    w = run("mapping", z, gan.label.one_hot(batch, keys.shape[0]))
    shape: tuple[int, ...] = gan.element.shape  # type: ignore[assignment]
    y = normal(fold(keys, 8), shape) / math.sqrt(shape[0] * shape[1])
    inner = lambda styles: (run("synthesis", styles, fold(keys, 6)) * y).sum()
    slope = jax.grad(inner)(run("repeated", w))
    length = jnp.sqrt(jnp.square(slope).sum(-1).mean(-1) + 1e-12)
    total, count = across(((length * mask).sum(), mask.sum()))
    mean = jax.lax.stop_gradient(total / jnp.maximum(count, 1.0))
    target = DECAY * variables.state[LENGTH] + (1.0 - DECAY) * mean
    # As many of the generator's own updates lie between two of these.
    updates = gan.config.path_interval / gan.config.critic_steps
    loss = gan.config.path_length * updates * jnp.square(length - target)
    metrics = {"length": Mean.of(length, mask)}
    return Mean.of(loss, mask), Aux({**variables.state, LENGTH: target}, metrics)
