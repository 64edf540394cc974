"""Edit rows with a finished diffusion: complete, vary, restore, steer and join them.

Every function draws with one compiled program, which calls of the same sizes and options share.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.config import Count, Positive, Signed, check
from genjax.core import Batch, Denoiser, Keys, Model, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional.paths import along
from genjax.functional.schedules import Spacing
from genjax.sampling import diffusion, editing
from genjax.sampling.methods import METHODS, Method, method

Measure = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class How:
    """Configure the sampler of an edit.

    Attributes:
      steps: along the whole path; an edit that begins later makes fewer.
      sampler: the name of a method.
      spacing: of the steps; None for the model's own.
      guidance: by the label; 1 for none.
      clip: estimates of x_0 are limited to [-clip, clip]; None for the range of the data, if it is known.
    """

    steps: Count = 50
    sampler: str = "ddim"
    spacing: Spacing | None = None
    guidance: Signed = 1.0
    clip: Positive | None = None

    def __post_init__(self):
        check(self)
        method(self.sampler)


@dataclasses.dataclass(frozen=True, eq=False)
class Editor:
    """Hold a diffusion with its learned variables.

    Attributes:
      denoiser: of the model.
      variables: finished (`Model.finish`).
      spec: of the data.
    """

    denoiser: Denoiser
    variables: Variables
    spec: Spec

    @classmethod
    def of(cls, model: Model, variables: Variables, spec: Spec) -> Editor:
        """Return the editor of a model.

        Raises:
          ConfigError: the model is no diffusion whose samples are values of its denoiser.
        """
        denoiser = model.denoiser
        if denoiser is None or None in (denoiser.read, denoiser.expected, denoiser.times):
            raise ConfigError("the model is no diffusion", "use a run of a diffusion")
        return cls(denoiser, variables, spec)

    def inpaint(
        self, rows: Batch, mask: Float[Array, "H W"], keys: Keys, repeats: int = 5, how: How | None = None
    ) -> Batch:
        """Return rows that are known where the mask is 1 and drawn elsewhere (RePaint).

        The known values are those of the rows to the bit.

        Args:
          mask: of a row's first two axes (an image's pixels).
          repeats: of each step: see `editing.keeping`.
        """
        x_0, given = self.read(rows)
        within = _fitted(mask, x_0.shape[1:])
        known = jnp.broadcast_to(within, x_0.shape)
        edit = _Keeping(repeats)
        x = self._draw(how or How(sampler="ddpm"), edit, keys, given, (x_0, known), x_0.shape[1:])
        return self._pasted(self.decode(x, given), rows, mask)

    def vary(
        self, rows: Batch, keys: Keys, strength: float, how: How | None = None, label: Batch | None = None
    ) -> Batch:
        """Return rows that are noised to the time `strength` and denoised (SDEdit).

        Args:
          strength: of the noise, in (0, 1]: 1 leaves nothing of the rows.
          label: conditions in place of the rows' own.
        """
        x_0, given = self.read(rows)
        given = {**given, **(label or {})}
        x = self._draw(how or How(), None, keys, given, (), x_0.shape[1:], x_0, strength)
        return self.decode(x, given)

    def restore(
        self,
        measured: Float[Array, "B *measured"],
        measure: Measure,
        rows: Batch,
        keys: Keys,
        scale: float = 1.0,
        how: How | None = None,
    ) -> Batch:
        """Return rows drawn to agree with a measurement (diffusion posterior sampling).

        Args:
          measured: of rows in the values of the network: `measure` of what `read` returns.
          measure: linear, hashable (sampling/measurements.py).
          rows: conditions are read from them, and nothing else.
          scale: zeta' of `editing.measured`.
        """
        x_0, given = self.read(rows)
        edit = _Measured(measure, scale)
        x = self._draw(how or How(sampler="ddpm"), edit, keys, given, (measured,), x_0.shape[1:])
        return self.decode(x, given)

    def steer(
        self,
        log_p: Callable[[Batch], jax.Array],
        rows: Batch,
        keys: Keys,
        scale: float = 1.0,
        how: How | None = None,
    ) -> Batch:
        """Return draws from p(x) p(y | x)^scale.

        Args:
          log_p: targets in the units of the data -> log p(y | x), (B,). Pass the same function again to
            reuse the compiled program.
          rows: conditions are read from them, and nothing else.
        """
        x_0, given = self.read(rows)
        edit = _Steered(log_p, scale)
        return self.decode(self._draw(how or How(), edit, keys, given, (), x_0.shape[1:]), given)

    def between(self, first: Batch, second: Batch, steps: int, how: How | None = None) -> Batch:
        """Return rows on paths between rows: their noises are joined by great circles (DDIM inversion).

        Song et al. 2021 (arXiv:2010.02502), sec. 5.3. Conditions are hidden.

        Returns:
          For each pair the `steps` rows of its path, first to last.
        """
        how = how or How(steps=100)
        ends = []
        for rows in (first, second):
            x_0, given = self.read(rows)
            given = self.denoiser.hidden(given)
            ends.append(_inverted(self.denoiser, how, self.variables, given, self._times(how), x_0))
        path = along(ends[0], ends[1], jnp.linspace(0.0, 1.0, steps)).reshape(-1, *ends[0].shape[1:])
        given = {k: jnp.repeat(x, steps, 0) for k, x in self.denoiser.hidden(self.read(first)[1]).items()}
        x = _returned(self.denoiser, how, self.variables, given, self._times(how), path)
        return self.decode(x, given)

    def read(self, rows: Batch) -> tuple[jax.Array, Batch]:
        """Return x_0 in the values of the network, and the conditions."""
        return _read(self.denoiser, self.variables, {name: jnp.asarray(x) for name, x in rows.items()})

    def decode(self, x_0: Float[Array, "B *shape"], given: Batch) -> Batch:
        """Return x_0 in the form of the data."""
        out = {}
        for name, x in _expected(self.denoiser, self.variables, x_0, given).items():
            levels = self.spec[name].levels
            x = jnp.clip(jnp.round(x), 0, levels - 1) if levels else x
            out[name] = x.astype(self.spec[name].dtype)
        return out

    def _times(self, how: How) -> np.ndarray:
        assert self.denoiser.times is not None
        return self.denoiser.times(how.steps, how.spacing)

    def _draw(
        self,
        how: How,
        edit: Any,
        keys: Keys,
        given: Batch,
        parts: tuple[jax.Array, ...],
        shape: tuple[int, ...],
        begin: jax.Array | None = None,
        strength: float = 1.0,
    ) -> jax.Array:
        times = self._times(how)
        kept = times[times <= strength]
        if len(kept) < 2:
            raise ConfigError(
                f"strength={strength} is below the first of {how.steps} steps", "give more steps"
            )
        return _drawn(self.denoiser, how, edit, shape, self.variables, keys, given, kept, parts, begin)

    def _pasted(self, made: Batch, rows: Batch, mask: Float[Array, "H W"]) -> Batch:
        """Return the made rows with the known values of the data."""
        out = {}
        for name, x in made.items():
            known = _fitted(mask, x.shape[1:]) > 0
            out[name] = jnp.where(known, jnp.asarray(rows[name]), x)
        return out


@dataclasses.dataclass(frozen=True)
class _Keeping:
    repeats: int

    def __call__(self, method: Method, path: Any, expected: Any, x_0: Array, known: Array) -> Method:
        return editing.keeping(method, x_0, known, self.repeats)


@dataclasses.dataclass(frozen=True)
class _Measured:
    measure: Measure
    scale: float

    def __call__(self, method: Method, path: Any, expected: Any, measured: Array) -> Method:
        def distance(x: jax.Array) -> jax.Array:
            squares = jnp.square(self.measure(x) - measured).reshape(x.shape[0], -1).sum(1)
            return jnp.sqrt(squares + 1e-12)  # the root has no gradient at 0

        return editing.measured(method, distance, self.scale)


@dataclasses.dataclass(frozen=True)
class _Steered:
    log_p: Callable[[Batch], jax.Array]
    scale: float

    def __call__(self, method: Method, path: Any, expected: Any) -> Method:
        return editing.steered(method, path, lambda x: self.log_p(expected(x)), self.scale)


def _fitted(mask: Float[Array, "H W"], shape: tuple[int, ...]) -> Float[Array, "1 *shape"]:
    """Return the mask of x_0 for that of pixels: known where all of the pixels of a place are.

    Raises:
      ConfigError: x_0 has no such grid.
    """
    H, W = mask.shape
    if len(shape) < 2 or H % shape[0] or W % shape[1]:
        raise ConfigError(f"a mask of {H}x{W} does not fit rows of {shape}", "give one of their size")
    cells = mask.reshape(shape[0], H // shape[0], shape[1], W // shape[1])
    return cells.min((1, 3)).reshape(1, *shape[:2], *[1] * (len(shape) - 2))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _drawn(
    denoiser: Denoiser,
    how: How,
    edit: Any,
    shape: tuple[int, ...],
    variables: Variables,
    keys: Keys,
    given: Batch,
    times: Array,
    parts: tuple[jax.Array, ...],
    begin: jax.Array | None,
) -> jax.Array:
    assert denoiser.expected is not None
    expected = lambda x: denoiser.expected(variables, x, given)  # type: ignore[misc]
    change = None if edit is None else lambda method, path: edit(method, path, expected, *parts)
    null = denoiser.hidden(given) if given else None
    options: dict[str, Any] = {"sampler": how.sampler, "guidance": how.guidance}
    options["clip"] = how.clip or denoiser.limit
    options |= {"null": null, "begin": begin, "change": change}
    return diffusion.sample(denoiser, variables, keys, given, times, shape=shape, **options)


Way = Literal[1, -1]


def _along(way: Way) -> Any:
    """Return a function that runs DDIM without noise along the times (1), or against them (-1)."""

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def run(
        denoiser: Denoiser, how: How, variables: Variables, given: Batch, times: Array, x: jax.Array
    ) -> jax.Array:
        one = lambda x, t: denoiser.denoise(variables, x, t, given)
        estimate = lambda x, t: diffusion.threshold(one(x, t), how.clip or denoiser.limit)
        # The time without noise is left out on the way there: no noise can be read off clean rows.
        points = times[:-1][::-1] if way < 0 else times
        # DDIM draws nothing.
        keys = jax.random.split(jax.random.key(0), x.shape[0])
        ddim = METHODS["ddim"]()
        return diffusion.integrate(estimate, denoiser.path(variables), x, keys, points, ddim)

    return run


_inverted = _along(-1)
_returned = _along(1)


def _read_rows(denoiser: Denoiser, variables: Variables, rows: Batch) -> tuple[jax.Array, Batch]:
    assert denoiser.read is not None
    return denoiser.read(variables, rows)


def _expected_rows(denoiser: Denoiser, variables: Variables, x_0: jax.Array, given: Batch) -> Batch:
    assert denoiser.expected is not None
    return denoiser.expected(variables, x_0, given)


_read: Any = jax.jit(_read_rows, static_argnums=0)
_expected: Any = jax.jit(_expected_rows, static_argnums=0)
