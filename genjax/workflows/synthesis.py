"""Draw what a generator's codes hold, as pictures: projections, style mixing, directions, truncation curves.

The verbs of `genjax latent` for models that draw codes and encode nothing (core.Generator), and the curve of
any option of any sampler.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax import evaluation, files, latents
from genjax.config import Count, Natural, NotNegative, Positive, Seed
from genjax.core import Batch, row_keys
from genjax.errors import ConfigError
from genjax.latents import Synthesis
from genjax.sampling.sampler import declared, options
from genjax.workflows import evaluate
from genjax.workflows.exploring import Drawn, Work

DIRECTIONS = 5
"""That are shown if none are asked for."""
SPREAD = 1000
"""Codes from which their standard deviation along a direction is computed."""
METRICS = ("prdc", "frechet")


@dataclasses.dataclass(frozen=True)
class Project:
    """Configure the search for the codes of held-out rows.

    Attributes:
      rows: held-out rows; not read with `input`.
      input: an image or a folder of images to project instead, e.g. "me.png".
      label: the class that the generator reads; None for that of the held-out rows (of `input`, in turn).
      draws: codes among which the nearest one is where the search begins.
      per_layer: a code for each layer, if the generator reads several; else one for all of them.
      steps, learning_rate: of Adam.
      seed: of the draws.
    """

    rows: tuple[Natural, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    input: str | None = None
    label: Natural | None = None
    draws: Count = 200
    per_layer: bool = True
    steps: Count = 300
    learning_rate: Positive = 0.05
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class Mix:
    """Configure a grid in which some layers read the style of the column, and the others that of the row.

    Attributes:
      rows, columns: how many random codes of each.
      layers: that read the style of the column; None for the second half.
      truncation: psi, of all codes.
      seed: of the codes.
    """

    rows: Count = 6
    columns: Count = 6
    layers: tuple[Natural, ...] | None = None
    truncation: Positive = 1.0
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class Factors:
    """Configure directions without labels: for each direction, a line for each of some random codes.

    Attributes:
      rows: random codes.
      directions: how many, of those that change the most; None for five, or for all of fewer dimensions.
      steps: of a line.
      span: reach on both sides of a code, in standard deviations of the codes along the direction.
      layers: that are moved; None for all.
      truncation: psi, of the codes.
      seed: of the codes.
    """

    rows: Count = 2
    directions: Count | None = None
    steps: Count = 7
    span: Positive = 3.0
    layers: tuple[Natural, ...] | None = None
    truncation: Positive = 1.0
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class Curve:
    """Configure scores as a function of an option of the sampler.

    Attributes:
      option: its name.
      values: that it is set to.
      samples: that each value is scored on.
    """

    option: str = "truncation"
    values: tuple[NotNegative, ...] = (0.3, 0.5, 0.7, 0.85, 1.0)
    samples: Count = 1000


def _project(work: Work, options: Project) -> Drawn:
    synthesis = work.synthesis
    rows = (
        work.held_out(options.rows) if options.input is None else work.images(options.input, "latent.input")
    )
    rows = {name: jnp.asarray(x) for name, x in work.labelled(rows, options.label, "latent.label").items()}
    distance = latents.squared_error(synthesis, rows)
    count = len(next(iter(rows.values())))
    keys = jax.vmap(lambda i: _keys(options.seed, count, i))(jnp.arange(options.draws))
    begin, before = latents.nearest(synthesis, distance, keys, rows)
    adam = {"steps": options.steps, "learning_rate": options.learning_rate}
    codes, _ = latents.inverted(synthesis, distance, begin, rows, per_layer=options.per_layer, **adam)
    after = distance(synthesis.expected(codes, rows))
    # Three lines: the rows, the nearest draws, and the decodings of the codes that were found.
    lines = [rows, synthesis.decode(begin, rows), synthesis.decode(codes, rows)]
    shown = {name: np.concatenate([np.asarray(x[name]) for x in lines]) for name in work.spec.targets}
    found = (
        f"mean squared error: {float(before.mean()):.4g} at the nearest of {options.draws} draws, "
        f"{float(after.mean()):.4g} at the codes that were found"
    )
    return Drawn(work.save(shown, count), found)


def _mix(work: Work, options: Mix) -> Drawn:
    synthesis = work.synthesis
    if synthesis.layers < 2:
        raise ConfigError(
            "this generator reads one code, and no layers' styles can be mixed",
            "use a run whose network has styles (model.network.name=stylegan2)",
        )
    layers = _layers(options.layers, synthesis.layers, range(synthesis.layers // 2, synthesis.layers))
    N, M = options.rows, options.columns
    codes, given = _drawn(synthesis, options.seed, N + M, options.truncation)
    mixed = latents.mixed(codes[:N], codes[N:], layers)
    # The first line has the columns' own images, and each other line begins with the row's own.
    first = jnp.concatenate([codes[:1], codes[N:]])
    lines = jnp.concatenate([codes[:N, None], mixed], 1)
    every = jnp.concatenate([first[None], lines]).reshape(-1, *codes.shape[1:])
    # Labels are those of the row: a generator with styles reads them in its mapping.
    labels = {name: jnp.repeat(jnp.concatenate([x[:1], x[:N]]), M + 1) for name, x in given.items()}
    shown = dict(_in_parts(synthesis, every, labels))
    for name in work.spec.targets:
        blank = np.array(shown[name])
        blank[0] = (work.spec[name].levels or 1) - 1
        shown[name] = blank
    found = f"layers {_listed(layers)} of {synthesis.layers} read the style of the column"
    return Drawn(work.save(shown, M + 1), found)


def _factors(work: Work, options: Factors) -> Drawn:
    synthesis = work.synthesis
    layers = _layers(options.layers, synthesis.layers, range(synthesis.layers))
    kernels = synthesis.generator.kernels(synthesis.variables)
    width = kernels[0].shape[0]
    directions = min(DIRECTIONS, width) if options.directions is None else options.directions
    if directions > width:
        raise ConfigError(f"latent.directions={directions}: codes have {width} dimensions", "name fewer")
    found, values = latents.directions([kernels[i] for i in layers], directions)
    many, labels = _drawn(synthesis, options.seed, max(SPREAD, options.rows), options.truncation)
    spread = (many[:, 0] @ found.T).std(0)
    codes = many[: options.rows]
    given = {name: x[: options.rows] for name, x in labels.items()}
    steps = jnp.linspace(-options.span, options.span, options.steps)
    lines = [latents.moved(codes, n, s * steps, layers) for n, s in zip(found, spread, strict=True)]
    every = jnp.concatenate(lines).reshape(-1, *codes.shape[1:])
    repeated = {k: jnp.tile(jnp.repeat(x, options.steps), directions) for k, x in given.items()}
    shown = _in_parts(synthesis, every, repeated)
    said = ", ".join(f"{v:.3g}" for v in np.asarray(values))
    return Drawn(
        work.save(shown, options.steps),
        f"{directions} directions with the eigenvalues {said}, {options.rows} lines each",
    )


def _curve(work: Work, given: Curve) -> Drawn:
    experiment = work.trained.experiment
    if given.option not in declared(experiment.model):
        raise ConfigError(
            f"latent.option={given.option!r} is no option of this model's sampler",
            f"it has: {', '.join(declared(experiment.model)) or 'none'}",
        )
    each = [options(experiment.model, {**experiment.settings.sample, given.option: v}) for v in given.values]
    features = work.classifier()
    config = evaluate.config_of(
        work.trained, {"samples": given.samples, "sets": 1, "metrics": METRICS, "labels": None}
    )
    reference = evaluation.ReferenceStatistics(work.dataset, features, config)
    table = []
    for value, chosen in zip(given.values, each, strict=True):
        scores, _ = evaluation.evaluate(
            experiment.model,
            work.trained.variables,
            work.dataset,
            features,
            config,
            chosen,
            reference=reference,
        )
        table.append({given.option: float(value), **{s.name: s.value for s in scores}})
    path = work.out.with_suffix(".png")
    files.write_text(work.out.with_suffix(".json"), json.dumps(table, indent=1))
    _plot(given.option, table, path)
    lines = "".join("\n  " + ", ".join(f"{k} {v:.4g}" for k, v in row.items()) for row in table)
    return Drawn(path, f"{given.samples} samples for each value{lines}")


def _plot(option: str, table: Sequence[dict[str, float]], path: Path) -> None:
    """Draw precision against recall, and the Fréchet distance, each point with the option's value."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4))
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    x = [row["recall"] for row in table]
    y = [row["precision"] for row in table]
    left.plot(x, y, "o-")
    for row in table:
        left.annotate(f" {row[option]:g}", (row["recall"], row["precision"]))
    left.set(xlabel="recall", ylabel="precision", title=f"points: {option}")
    right.plot([row[option] for row in table], [row["frechet"] for row in table], "o-")
    right.set(xlabel=option, ylabel="Fréchet distance")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=120)


def _keys(seed: int, count: int, stream: Any = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), stream, jnp.arange(count))


def _drawn(
    synthesis: Synthesis, seed: int, count: int, truncation: float
) -> tuple[Float[Array, "N L W"], Batch]:
    """Return random codes with their labels; code i does not depend on how many are drawn."""
    codes, given = synthesis.draw(_keys(seed, count), {})
    return synthesis.towards_mean(codes, truncation), given


def _in_parts(synthesis: Synthesis, codes: Float[Array, "N L W"], given: Batch, size: int = 100) -> Batch:
    """Return the targets of many codes, decoded `size` at a time."""
    count = codes.shape[0]
    found: list[Batch] = []
    for start in range(0, count, size):
        index = np.arange(start, start + size).clip(max=count - 1)
        found.append(synthesis.decode(codes[index], {k: x[index] for k, x in given.items()}))
    return {name: np.concatenate([np.asarray(x[name]) for x in found])[:count] for name in found[0]}


def _layers(asked: tuple[int, ...] | None, count: int, default: Sequence[int]) -> list[int]:
    """Return the layers that were asked for.

    Raises:
      ConfigError: the generator has fewer.
    """
    layers = list(default) if asked is None else list(asked)
    if not layers or max(layers) >= count:
        raise ConfigError(f"latent.layers={asked}: the generator has layers 0 to {count - 1}", "name some")
    return layers


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))


VERBS: dict[str, tuple[type, Callable[..., Drawn]]] = {
    "project": (Project, _project),
    "mix": (Mix, _mix),
    "factors": (Factors, _factors),
    "curve": (Curve, _curve),
}
