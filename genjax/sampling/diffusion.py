"""Sample from any Denoiser: the samplers use its path and E[x_0 | x_t], and no architecture.

A sampler is a `Method` (sampling/methods), whose `step` moves x from time t to an earlier time s. To add
one, write a function that returns a Method and pass the Method as `sampler`, or name the function in METHODS.

The loop over times is one compiled scan, and every row draws from its own key alone: sample i does not
depend on the other rows of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.core import Batch, Denoiser, Keys, Variables
from genjax.errors import ConfigError
from genjax.functional.diffusion import Variance, spread
from genjax.functional.schedules import Path, time_of
from genjax.sampling.methods import METHODS, Method, Point, method
from genjax.sampling.methods.remembering import remembering

__all__ = [
    "METHODS",
    "Method",
    "Point",
    "guided",
    "integrate",
    "matched",
    "method",
    "normal",
    "sample",
    "threshold",
]
Denoise = Callable[[jax.Array, jax.Array], jax.Array]
"""(x_t, t_B) -> E[x_0 | x_t]"""


def guided(
    denoise: Callable[..., jax.Array],
    scale: float,
    prompt: Batch,
    null: Batch | None,
    interval: tuple[float, float] = (0.0, 1.0),
    rescale: float = 0.0,
    weaker: Callable[..., jax.Array] | None = None,
    free: int = 0,
) -> Denoise:
    """Return the denoiser under classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, eq. 6).

    The estimate of x_0 is an affine function of that of the noise, so that guiding either is the same.

    Args:
      denoise: (x_t, t_B, prompt) -> E[x_0 | x_t].
      scale: 1 + w: 1 is the conditional estimate and 0 the unconditional one, for one evaluation each. Other
        values evaluate both as one batch of twice the size; above 1 they lead away from `null`.
      prompt: the conditions, batch-first.
      null: the conditions to move away from, of the same form (no label, or a negative prompt).
      interval: times (after the first, up to the second) at which there is guidance; at others the
        conditional estimate alone is evaluated (Kynkaanniemi et al. 2024, arXiv:2404.07724).
      rescale: phi, the share of the guided estimate that is scaled to the standard deviation of the
        conditional one (Lin et al. 2024, arXiv:2305.08891, eq. 15 and 16; here of x_0).
      weaker: a denoiser with the same conditions that guidance leads away from, in place of `null`
        (autoguidance; Karras et al. 2024, arXiv:2406.02507, sec. 4).
      free: trailing channels of the estimate that are not guided: those of the conditional one are taken.

    Raises:
      ConfigError: the scale is not 1, and `null` is None; or options that need another scale.
    """
    if scale in (0, 1):
        if rescale or tuple(interval) != (0.0, 1.0):
            raise ConfigError(f"interval and rescale have no effect at guidance={scale}", "leave them out")
        if scale == 1:
            return lambda x, t: denoise(x, t, prompt)
    if null is None and weaker is None:
        raise ConfigError(f"guidance={scale} without a condition", "give a prompt, or set guidance to 1")
    if scale == 0:
        if weaker is not None:
            return lambda x, t: weaker(x, t, prompt)
        return lambda x, t: denoise(x, t, null)
    low, high = interval

    def two(x: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        if weaker is not None:
            return denoise(x, t, prompt), weaker(x, t, prompt)
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), prompt, null)
        twice = jnp.tile(x, (2,) + (1,) * (x.ndim - 1))
        with_it, without = jnp.split(denoise(twice, jnp.tile(t, 2), both), 2)
        return with_it, without

    def guide(x: jax.Array, t: jax.Array) -> jax.Array:
        with_it, without = two(x, t)
        channels = with_it.shape[-1] - free
        own = with_it[..., :channels]
        found = without[..., :channels] + scale * (own - without[..., :channels])
        found = found if not rescale else _rescaled(found, own, rescale)
        return jnp.concatenate([found, with_it[..., channels:]], axis=-1) if free else found

    def estimate(x: jax.Array, t: jax.Array) -> jax.Array:
        if (low, high) == (0.0, 1.0):
            return guide(x, t)
        inside = (t[0] > low) & (t[0] <= high)
        return jax.lax.cond(inside, lambda: guide(x, t), lambda: denoise(x, t, prompt))

    return estimate


def _rescaled(
    found: Float[Array, "B *shape"], like: Float[Array, "B *shape"], share: float
) -> Float[Array, "B *shape"]:
    """Move the standard deviation of each row of `found` towards that of `like`."""
    axes = tuple(range(1, found.ndim))
    factor = like.std(axes, keepdims=True) / jnp.maximum(found.std(axes, keepdims=True), 1e-8)
    return found * (share * factor + 1.0 - share)


def matched(denoiser: Denoiser, variables: Variables, path: Path) -> Callable[..., jax.Array]:
    """Return (x_t, t_B, prompt) -> E[x_0 | x_t] of another denoiser for x_t on this path.

    x_t is scaled to the place of the denoiser's own path that has the same sigma / alpha. Where this path has
    no signal, that is its end.
    """
    own = denoiser.path(variables)

    def denoise(x: jax.Array, t: jax.Array, prompt: Batch) -> jax.Array:
        alpha, sigma = path(t)
        at = time_of(own, jnp.log(alpha) - jnp.log(sigma))
        scale = own(at)[1] / sigma
        return denoiser.denoise(variables, spread(scale, x) * x, at, prompt)

    return denoise


def threshold(
    x_0: Float[Array, "B *shape"], clip: float | None, quantile: float | None = None
) -> Float[Array, "B *shape"]:
    """Limit estimates of x_0 to the range of the data.

    Args:
      clip: the data lie in [-clip, clip]; None leaves x_0 unchanged.
      quantile: apply dynamic thresholding (Saharia et al. 2022, arXiv:2205.11487, sec. 2.3): if this quantile
        of |x_0| in a row exceeds `clip`, the row is clipped there and scaled back into the range.

    Raises:
      ConfigError: a quantile without a range.
    """
    if clip is None:
        if quantile is not None:
            raise ConfigError(f"quantile={quantile} has no effect without clip", "set clip to 1")
        return x_0
    if quantile is None:
        return jnp.clip(x_0, -clip, clip)
    size = jnp.quantile(jnp.abs(x_0).reshape(x_0.shape[0], -1), quantile, axis=1)
    size = jnp.maximum(size, clip).reshape((-1,) + (1,) * (x_0.ndim - 1))
    return jnp.clip(x_0, -size, size) * (clip / size)


def normal(keys: Keys, shape: tuple[int, ...], n: int | jax.Array = 0) -> jax.Array:
    """Draw standard normal rows, each from its own fold_in(key, n): (B, *shape) float32."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, n), shape))(keys)


def integrate(
    denoise: Denoise,
    path: Path,
    x: Float[Array, "B *shape"],
    keys: Keys,
    times: Array | np.ndarray,
    method: Method,
) -> Float[Array, "B *shape"]:
    """Move x along `times` (N + 1, monotone) in one scan over N steps, whatever the method.

    Increasing times run a deterministic method in reverse (DDIM inversion). Step n draws from
    fold_in(key, n), and further noise of the same step from fold_in(fold_in(key, n), stream).
    """

    def evaluate(x: jax.Array, t: jax.Array, *before: jax.Array) -> jax.Array:
        return denoise(x, jnp.full((x.shape[0],), t), *before)

    def body(carry, point):
        x, memory = carry
        n, now, then = point

        def noise(stream: int | jax.Array = 0) -> jax.Array:
            if isinstance(stream, int) and not stream:
                return normal(keys, x.shape[1:], n)
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, n)
            return normal(own, x.shape[1:], stream)

        return method.step(evaluate, x, memory, now, then, noise), None

    times = jnp.asarray(times, jnp.float32)
    steps = times.shape[0] - 1
    index = jnp.arange(steps + 1)
    points = Point(times, *path(times), index, steps - index)
    now, then = (jax.tree.map(lambda a, cut=cut: a[cut], points) for cut in (slice(-1), slice(1, None)))
    order = index[1:]
    (x, _), _ = jax.lax.scan(body, (x, method.start(x)), (order, now, then))
    return x


def _estimate(
    denoiser: Denoiser,
    variables: Variables,
    prompt: Batch,
    guidance: float,
    null: Batch | None,
    options: dict[str, Any],
    learned: bool,
    limits: tuple[float | None, float | None],
) -> Callable[..., Any]:
    """Return what a method evaluates: (x_t, t_B) -> E[x_0 | x_t], guided and limited.

    With self-conditioning it takes the estimate before as a third argument; with a learned variance it
    returns the share, too. Both travel through the guidance as channels.

    Raises:
      ConfigError: see `guided`; or a learned variance that the model, or the guide at guidance 0, has not.
    """
    weaker = denoiser.weaker and denoiser.weaker(variables)
    if learned and denoiser.varied is None:
        raise ConfigError("variance='learned': the model has none", "train with model.variance=learned")
    if learned and weaker is not None and guidance == 0:
        raise ConfigError("variance='learned' at guidance=0: the guide's is not known", "leave one out")

    def estimate(x: jax.Array, t: jax.Array, before: jax.Array | None = None) -> Any:
        channels = x.shape[-1]

        def one(inputs: jax.Array, t: jax.Array, prompt: Batch) -> jax.Array:
            memory = (inputs[..., channels:],) if denoiser.remembers else ()
            args = (variables, inputs[..., :channels], t, prompt, *memory)
            if not learned:
                return denoiser.denoise(*args)
            assert denoiser.varied is not None
            return jnp.concatenate(denoiser.varied(*args), axis=-1)

        def guide(inputs: jax.Array, t: jax.Array, prompt: Batch) -> jax.Array:
            assert weaker is not None
            return weaker(inputs[..., :channels], t, prompt)

        free = channels if learned else 0
        find = guided(one, guidance, prompt, null, **options, weaker=weaker and guide, free=free)
        if denoiser.remembers:
            before = jnp.zeros_like(x) if before is None else before
            found = find(jnp.concatenate([x, before], axis=-1), t)
        else:
            found = find(x, t)
        x_0 = threshold(found[..., :channels], *limits)
        return (x_0, found[..., channels:]) if learned else x_0

    return estimate


def sample(
    denoiser: Denoiser,
    variables: Variables,
    keys: Keys,
    prompt: Batch,
    times: Array | np.ndarray,
    *,
    shape: tuple[int, ...],
    sampler: str | Method = "ddim",
    eta: float | None = None,
    variance: Variance | None = None,
    order: int | None = None,
    churn: float | None = None,
    guidance: float = 1.0,
    interval: tuple[float, float] = (0.0, 1.0),
    rescale: float = 0.0,
    null: Batch | None = None,
    clip: float | None = None,
    quantile: float | None = None,
    begin: Float[Array, "B *shape"] | None = None,
    change: Callable[[Method, Path], Method] | None = None,
) -> Float[Array, "B *shape"]:
    """Draw one row per key.

    Args:
      denoiser, variables: the model.
      keys: (B,).
      prompt: batch-first, or {}.
      times: (N + 1,) decreasing from the time of the initial noise to 0 (see functional.schedules.times).
      shape: of one row.
      sampler: the name of a method, or a Method.
      eta: of "ddim".
      variance: of "ddpm".
      order: of "dpm_solver", "dpm_solver_sde", "deis", "unipc", "lms" and "pndm".
      churn: of "heun".
      guidance, interval, rescale, null: see `guided`.
      clip, quantile: see `threshold`; applied to every estimate of x_0, after guidance.
      begin: rows that are noised to the first time, in place of noise alone: the later that time, the more
        they change (SDEdit; Meng et al. 2022, arXiv:2108.01073, algorithm 1).
      change: makes another method of it, such as those of sampling/editing.py.

    Raises:
      ConfigError: see `method` and `guided`.
    """
    given = {"eta": eta, "variance": variance, "order": order, "churn": churn}
    path = denoiser.path(variables)
    how = method(sampler, path=path, **given)
    options: dict[str, Any] = {"interval": interval, "rescale": rescale}
    learned = variance == "learned"
    denoise = _estimate(denoiser, variables, prompt, guidance, null, options, learned, (clip, quantile))
    times = jnp.asarray(times, jnp.float32)
    alpha, sigma = path(times[0])
    x = sigma * normal(keys, shape)
    if begin is not None:
        x = alpha * begin + x
    if change is not None:
        how = change(how, path)
    if denoiser.remembers:
        how = remembering(how)
    return integrate(denoise, path, x, keys, times, how)
