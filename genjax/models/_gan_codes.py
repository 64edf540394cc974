"""Give a GAN's generator as functions of codes (core.Generator): z, or a style for each layer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Batch, Generator, Keys, Tree, Variables
from genjax.functional.noise import normal
from genjax.models._gan_players import GENERATOR, Players


def generator(gan: Players, kernels: Any) -> Generator:
    """Return the functions of codes of a GAN.

    Args:
      kernels: (params, latent) -> the kernels that read the codes (nn/gans).
    """
    network = gan.generator
    latent = gan.config.latent

    def run(tree: Tree, method: str | None, *args: Any) -> Any:
        return network.apply(tree, *args, method=method)

    def draw(variables: Variables, keys: Keys, prompt: Batch) -> tuple[Float[Array, "B L W"], Batch]:
        label = gan.label.drawn(prompt, keys)
        z = normal(keys, (latent,))
        if not gan.styles:
            return z[:, None], label
        tree = gan.collections(variables, GENERATOR)
        w = run(tree, "mapping", z, gan.label.one_hot(label, keys.shape[0]))
        return run(tree, "repeated", w), label

    def mean(variables: Variables) -> Float[Array, " W"]:
        return variables.state[GENERATOR]["style"] if gan.styles else jnp.zeros((latent,))

    def expected(variables: Variables, codes: Float[Array, "B L W"], given: Batch) -> Batch:
        tree = gan.collections(variables, GENERATOR)
        if gan.styles:
            x = run(tree, "synthesis", codes, None)
        else:
            x = run(tree, None, codes[:, 0], gan.label.one_hot(given, codes.shape[0]), False)
        # Level k is 2 k / (levels - 1) - 1 to the network.
        return {gan.name: (x + 1.0) * ((gan.levels - 1) / 2.0) if gan.levels else x}

    def read(variables: Variables) -> list[jax.Array]:
        return kernels(variables.params[GENERATOR], latent)

    return Generator(draw, mean, expected, read)
