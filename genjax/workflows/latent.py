"""Draw what a run's latent space holds, as pictures: of codecs here, of generators in synthesis.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from genjax import kinds, latents
from genjax.config import Count, Natural, NotNegative, Positive, build
from genjax.core import Batch, Element, Spec
from genjax.errors import ConfigError
from genjax.workflows import evaluate, sample, synthesis
from genjax.workflows.assemble import Trained
from genjax.workflows.exploring import Drawn, Work

FOLDER = "latent"
LEARNED = 5000
"""Training rows from which statistics of the codes are computed."""


@dataclasses.dataclass(frozen=True)
class Interpolate:
    """Configure paths between held-out rows.

    Attributes:
      rows: held-out rows; each is joined to the next one in the list.
      steps: of a path, its ends included.
      path: "slerp" (great circles) or "lerp" (straight lines) between codes, or "rows" for straight lines
        between the rows themselves, to compare with.
    """

    rows: tuple[Natural, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8)
    steps: Count = 9
    path: Literal["slerp", "lerp", "rows"] = "slerp"


@dataclasses.dataclass(frozen=True)
class Traverse:
    """Configure a traversal: a line of pictures for each dimension of the code.

    Attributes:
      row: the held-out row whose code is moved.
      dimensions: how many, of those whose codes vary the most over rows.
      steps: values of a dimension.
      span: reach on both sides of the mean, in standard deviations of the codes.
    """

    row: Natural = 0
    dimensions: Count = 10
    steps: Count = 9
    span: Positive = 2.5


@dataclasses.dataclass(frozen=True)
class Edit:
    """Configure edits of an attribute of held-out rows.

    Attributes:
      rows: held-out rows, a line of pictures each.
      attribute: an element of whole numbers; None for the class label.
      values: that the attribute is set to; None for all of them, at most ten.
      strength: of the change; 1 moves a code the whole way.
    """

    rows: tuple[Natural, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    attribute: str | None = None
    values: tuple[Natural, ...] | None = None
    strength: NotNegative = 1.0


@dataclasses.dataclass(frozen=True)
class Search:
    """Configure a search for codes.

    Attributes:
      rows: held-out rows; a search begins at the code of each.
      label: the class that the dataset's classifier must see; None to match the rows themselves.
      steps, learning_rate: of Adam.
    """

    rows: tuple[Natural, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    label: Natural | None = None
    steps: Count = 300
    learning_rate: Positive = 0.05


@dataclasses.dataclass(frozen=True)
class Map:
    """Configure a map: held-out codes on their first two principal components, coloured by label.

    Attributes:
      rows: how many.
    """

    rows: Count = 2000


def run(verb: str, trained: Trained, given: Mapping[str, Any], average: str | None = None) -> Drawn:
    """Run one verb and write its picture below the run.

    interpolate, traverse, edit, search and map are of codecs; project, mix, factors and curve of generators.

    Args:
      given: options of the verb.
      average: of the weights; the config's if None, "none" for the last weights.

    Raises:
      ConfigError: an unknown verb or option, rows that the data does not have, or a run whose model has no
        codes of the verb's sort.
      DataError: the data is missing, or is not what the run was trained on.
    """
    asked = options(verb, given)
    draw = _VERBS[verb][1]
    variables = trained.ready(sample.check_average(trained, average))
    evaluate.require_data(trained)
    return draw(Work(trained, variables, trained.directory / FOLDER / verb), asked)


def options(verb: str, given: Mapping[str, Any]) -> Any:
    """Return the options of a verb, validated.

    Raises:
      ConfigError: one that the verb does not have, or a value out of its range.
    """
    return build(_VERBS[verb][0], dict(given), "latent")


def _interpolate(work: Work, options: Interpolate) -> Drawn:
    if len(options.rows) < 2 or options.steps < 2:
        raise ConfigError("a path needs two rows and two steps", "give more latent.rows or latent.steps")
    first = work.held_out(options.rows[:-1])
    second = work.held_out(options.rows[1:])
    if options.path == "rows":
        rows = _between(work.spec, first, second, options.steps)
    else:
        rows = latents.interpolate(work.space, first, second, options.steps, options.path)
    return Drawn(work.save(rows, options.steps), f"{len(options.rows) - 1} paths of {options.steps} steps")


def _between(spec: Spec, first: Batch, second: Batch, steps: int) -> Batch:
    """Return the rows on straight lines between rows of numbers, rounded."""
    t = np.linspace(0.0, 1.0, steps)
    out = {}
    for name in spec.targets:
        x = latents.along(jnp.float32(first[name]), jnp.float32(second[name]), jnp.float32(t), "lerp")
        x = np.asarray(x).reshape(-1, *spec[name].shape)
        out[name] = (np.round(x) if spec[name].levels else x).astype(spec[name].dtype)
    return out


def _traverse(work: Work, options: Traverse) -> Drawn:
    codes = jnp.asarray(work.codes(work.dataset.train, LEARNED)[0])
    dims = latents.widest(codes, options.dimensions)
    row = work.held_out((options.row,))
    rows = latents.traverse(work.space, row, codes, dims, options.steps, options.span)
    named = ", ".join(str(int(d)) for d in dims)
    return Drawn(work.save(rows, options.steps), f"a line for each of the dimensions {named}")


def _edit(work: Work, options: Edit) -> Drawn:
    name = options.attribute or work.spec.label
    element = work.spec.elements.get(name or "")
    if name is None or element is None or element.shape != () or not element.levels:
        known = [n for n, e in work.spec.elements.items() if e.shape == () and e.levels]
        raise ConfigError(
            f"latent.attribute={options.attribute!r} is no attribute of the data",
            f"it has {', '.join(known) or 'none: attributes are elements of whole numbers'}",
        )
    values = options.values or tuple(range(min(element.levels, 10)))
    if max(values) >= element.levels:
        raise ConfigError(f"latent.values={values}: {name} has values below {element.levels}", "name others")
    rows = work.held_out(options.rows)
    codes, seen = work.codes(work.dataset.train, LEARNED, name)
    missing = sorted({*values, *(int(x) for x in rows[name])} - {int(x) for x in np.unique(seen)})
    if missing:
        raise ConfigError(
            f"no training row has {name}={missing[0]}: the distribution of its codes is unknown",
            "name others",
        )
    gaussians = latents.moments(jnp.asarray(codes), jnp.asarray(seen, jnp.int32), element.levels)
    repeated = {k: np.repeat(x, len(values), 0) for k, x in rows.items()}
    target = np.tile(np.asarray(values), len(options.rows))
    moved = latents.edited(
        jnp.repeat(work.space.encode(rows), len(values), 0),
        gaussians,
        jnp.asarray(repeated[name], jnp.int32),
        jnp.asarray(target, jnp.int32),
        options.strength,
    )
    given = {**repeated, name: target.astype(element.dtype)}
    found = f"{len(options.rows)} rows with {name} set to {', '.join(map(str, values))}"
    return Drawn(work.save(work.space.decode(moved, given), len(values)), found)


def _search(work: Work, options: Search) -> Drawn:
    rows = work.held_out(options.rows)
    given = {name: jnp.asarray(x) for name, x in rows.items()}
    if options.label is None:
        objective = latents.matching(work.space, given)
        what = "mean squared error"
    else:
        objective = _objective_of_class(work, given, options.label)
        what = f"-log p(class {options.label})"
    begin = work.space.encode(rows)
    best, _ = latents.search(objective, begin, options.steps, options.learning_rate)
    # Three lines: the rows, the decodings of their own codes, and of the codes that were found.
    lines = [rows, work.space.decode(begin, given), work.space.decode(best, given)]
    shown = {name: np.concatenate([np.asarray(x[name]) for x in lines]) for name in work.spec.targets}
    before, after = (float(objective(z).mean()) for z in (begin, best))
    found = f"{what}: {before:.4g} at the encoder's codes, {after:.4g} at those that were found"
    return Drawn(work.save(shown, len(options.rows)), found)


def _objective_of_class(work: Work, given: Batch, label: int) -> latents.Objective:
    """Return -log p(label) of the dataset's classifier.

    Raises:
      ConfigError: the data has no such class, or there is no classifier of it.
    """
    if label >= work.spec.classes():
        raise ConfigError(
            f"latent.label={label}: the data has classes below {work.spec.classes()}", "name another"
        )
    logits = work.classifier().logits
    name = kinds.main_target(work.spec)
    if logits is None or name is None:
        raise ConfigError(
            "latent.label needs a classifier of the data", "leave it out to match rows, or name features"
        )
    count = next(iter(given.values())).shape[0]
    target = jnp.full((count,), label, jnp.int32)
    return latents.maximising(work.space, given, lambda batch: logits(batch[name]), target)


def _map(work: Work, options: Map) -> Drawn:
    label = work.spec.label
    codes, labels = work.codes(work.dataset.eval, options.rows, label)
    points, share = latents.principal(codes)
    elements = {"map": Element((2,), "float32", kind="point", role="target")}
    if label:
        elements[label] = work.spec[label]
    rows = {"map": points.astype(np.float32), **({label: labels} if label else {})}
    path = kinds.save_rows(Spec(elements), rows, work.out)
    return Drawn(path, f"{len(codes)} codes; the plane has {share.sum():.0%} of their variance")


_VERBS: dict[str, tuple[type, Callable[..., Drawn]]] = {
    "interpolate": (Interpolate, _interpolate),
    "traverse": (Traverse, _traverse),
    "edit": (Edit, _edit),
    "search": (Search, _search),
    "map": (Map, _map),
    **synthesis.VERBS,
}
VERBS = tuple(_VERBS)
