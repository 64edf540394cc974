"""Add to a restored run an average of its weights that is reconstructed from its checkpoints."""

from __future__ import annotations

import dataclasses
import logging

import jax
import jax.numpy as jnp

from genjax.errors import ConfigError
from genjax.training import checkpoint
from genjax.training.posthoc import PREFIX, Profile, combination, combined, exponent_of
from genjax.workflows.assemble import Trained

log = logging.getLogger("genjax")
FAR = 0.03
"""The weights of a combination may miss the sum 1 by this; beyond it their profile is not the wanted one."""


def with_average(trained: Trained, name: str | None) -> Trained:
    """Return the run with the average `name` among its averages, if it is one to reconstruct ("sigma_rel:X").

    Raises:
      ConfigError: X is no width, or the run has kept fewer than two averages of that kind.
    """
    if name is None or not name.startswith(PREFIX) or name in trained.variables.ema:
        return trained
    try:
        wanted = Profile(trained.step, exponent_of(float(name.removeprefix(PREFIX))))
    except ValueError as error:
        raise ConfigError(f"average {name!r}: {error}", "give a width such as sigma_rel:0.1") from None
    averages = trained.experiment.settings.train.averages
    kept = {n: a for n, a in averages.items() if a.sigma_rel is not None}
    first = next(iter(kept.values()), None)
    kept = {n: a for n, a in kept.items() if first is not None and a.players == first.players}
    steps = [n for n in checkpoint.saved_steps(trained.directory) if n <= trained.step]
    if not kept or len(kept) * len(steps) < 2:
        raise ConfigError(
            f"average {name!r} is reconstructed from averages that the run has not kept",
            "train with train.averages={'a': {'sigma_rel': 0.05}, 'b': {'sigma_rel': 0.1}}, "
            "train.checkpoint_every and train.keep_last",
        )
    saved = []
    trees = []
    for step in steps:
        ema = checkpoint.load(trained.directory, step).variables.ema
        for key, average in kept.items():
            assert average.sigma_rel is not None
            saved.append(Profile(step, exponent_of(average.sigma_rel)))
            trees.append(jax.device_get(ema[key]))
    weights = combination(saved, wanted)
    if abs(weights.sum() - 1.0) > FAR:
        raise ConfigError(
            f"average {name!r}: the checkpoints of {', '.join(map(str, steps))} steps do not determine it",
            "keep more of the training (train.checkpoint_every, train.keep_last), or take another width",
        )
    log.info("%s is a combination of %d averages of %d checkpoints", name, len(saved), len(steps))
    found = jax.tree.map(jnp.asarray, combined(trees, weights))
    # With the types of the run's own averages, as the model reads them.
    like = trained.variables.ema[next(iter(kept))]
    found = jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(found))
    variables = trained.variables.replace(ema={**trained.variables.ema, name: found})
    return dataclasses.replace(trained, variables=variables)
