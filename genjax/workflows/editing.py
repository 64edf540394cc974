"""Edit held-out rows, or images of one's own, with a run of a diffusion, and draw the edits as pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax import kinds
from genjax.config import Count, Natural, NotNegative, Positive, Seed, Signed, build, unused
from genjax.core import Batch, Element, Keys, row_keys
from genjax.errors import ConfigError
from genjax.evaluation.metrics.psnr import psnr
from genjax.sampling.editor import Editor, How
from genjax.sampling.measurements import Blurred, Pooled
from genjax.workflows import evaluate, sample
from genjax.workflows.assemble import Trained
from genjax.workflows.exploring import Drawn, Work

FOLDER = "edit"
HALVES = {
    "left": (slice(None), slice(0, 0.5)),
    "right": (slice(None), slice(0.5, 1)),
    "top": (slice(0, 0.5), slice(None)),
    "bottom": (slice(0.5, 1), slice(None)),
    "center": (slice(0.25, 0.75), slice(0.25, 0.75)),
}
"""{name: rows and columns that are drawn anew, as shares of the sides}."""
Hole = Literal["left", "right", "top", "bottom", "center"]


@dataclasses.dataclass(frozen=True)
class _Edit:
    """Configure any edit.

    Attributes:
      rows: held-out rows; not read with `input`.
      input: an image or a folder of images to edit instead.
      steps: of the sampler.
    """

    rows: tuple[Natural, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    input: str | None = None
    steps: Count = 50


@dataclasses.dataclass(frozen=True)
class _Drawing(_Edit):
    """Configure an edit that draws from the model.

    Attributes:
      label: of the edited rows; None for their own (held-out rows).
      guidance: by the label.
      seed: of the noise.
    """

    label: Natural | None = None
    guidance: Signed = 1.0
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class Inpaint(_Drawing):
    """Configure the completion of rows.

    Attributes:
      hole: what is drawn anew: "left", "right", "top", "bottom" or "center".
      mask: an image whose white pixels are drawn anew, in place of `hole`.
      draws: completions of each row.
      repeats: of each step (RePaint).
      sampler: the name of a method; those that add noise suit repeats.
    """

    hole: Hole = "center"
    mask: str | None = None
    draws: Count = 3
    repeats: Count = 5
    sampler: str = "ddpm"

    def __post_init__(self):
        if self.mask is not None:
            unused(self, "mask", "hole")


@dataclasses.dataclass(frozen=True)
class Outpaint(_Drawing):
    """Configure what is drawn around the middle of rows.

    Attributes:
      margin: of each side that is drawn anew, as a share of it.
      draws, repeats, sampler: as of inpaint.
    """

    margin: Positive = 0.25
    draws: Count = 3
    repeats: Count = 5
    sampler: str = "ddpm"


@dataclasses.dataclass(frozen=True)
class Vary(_Drawing):
    """Configure images made from images.

    Attributes:
      strengths: times to which rows are noised, a column for each; 1 leaves nothing of them.
      sampler: the name of a method.
    """

    strengths: tuple[Positive, ...] = (0.2, 0.4, 0.6, 0.8)
    sampler: str = "ddim"


@dataclasses.dataclass(frozen=True)
class Restore(_Drawing):
    """Configure the restoration of rows from a measurement of them.

    Attributes:
      measure: "enlarge", from means of squares of `factor` pixels; or "deblur", from a Gaussian blur of `std`
        pixels.
      factor: of "enlarge".
      std: of "deblur".
      noise: standard deviation of the noise in the measurement; images lie in [-1, 1].
      scale: of the steps towards the measurement (diffusion posterior sampling).
      sampler: the name of a method.
    """

    measure: Literal["enlarge", "deblur"] = "enlarge"
    factor: Count = 2
    std: Positive = 1.0
    noise: NotNegative = 0.05
    steps: Count = 200
    scale: Positive = 1.0
    sampler: str = "ddpm"

    def __post_init__(self):
        unused(self, "measure", "std" if self.measure == "enlarge" else "factor")

    def operator(self) -> Pooled | Blurred:
        """Return the measurement."""
        return Pooled(self.factor) if self.measure == "enlarge" else Blurred(self.std)


@dataclasses.dataclass(frozen=True)
class Steer(_Drawing):
    """Configure draws that the dataset's classifier leads to a class.

    Attributes:
      towards: the class.
      scales: of the classifier's gradient, a line for each.
      sampler: the name of a method.
    """

    towards: Natural = 0
    scales: tuple[NotNegative, ...] = (0.0, 1.0, 4.0)
    sampler: str = "ddim"


@dataclasses.dataclass(frozen=True)
class Interpolate(_Edit):
    """Configure paths between rows: each is joined to the next one in the list.

    Attributes:
      points: of a path, its ends included.
      steps: of DDIM, from rows to their noise and back.
    """

    points: Count = 9
    steps: Count = 200


def run(verb: str, trained: Trained, given: Mapping[str, Any], average: str | None = None) -> Drawn:
    """Run one verb and write its picture below the run.

    Args:
      given: options of the verb.
      average: of the weights; the config's if None, "none" for the last weights.

    Raises:
      ConfigError: an unknown verb or option, rows that the data does not have, or a run of no diffusion.
      DataError: the data is missing, is not what the run was trained on, or a file cannot be read.
    """
    asked = options(verb, given)
    variables = trained.ready(sample.check_average(trained, average))
    evaluate.require_data(trained)
    work = Work(trained, variables, trained.directory / FOLDER / verb)
    return _VERBS[verb][1](work, asked)


def options(verb: str, given: Mapping[str, Any]) -> Any:
    """Return the options of a verb, validated.

    Raises:
      ConfigError: one that the verb does not have, or a value out of its range.
    """
    return build(_VERBS[verb][0], dict(given), "edit")


def _rows(work: Work, options: _Edit) -> tuple[Editor, Batch]:
    """Return the editor of a run, and the rows to edit.

    Raises:
      ConfigError: the run is no diffusion, or the rows are not there.
    """
    editor = Editor.of(work.trained.experiment.model, work.variables, work.spec)
    if options.input is None:
        rows = work.held_out(options.rows, "edit.rows")
    else:
        rows = work.images(options.input, "edit.input")
    return editor, rows


def _begin(work: Work, options: _Drawing) -> tuple[Editor, Batch]:
    """Return the editor of a run, and the rows to edit with the label that was asked for.

    Raises:
      ConfigError: as `_rows`, or the data has no such label.
    """
    editor, rows = _rows(work, options)
    return editor, work.labelled(rows, options.label, "edit.label")


def _how(options: Any) -> How:
    return How(steps=options.steps, sampler=options.sampler, guidance=options.guidance)


def _keys(options: _Drawing, count: int) -> Keys:
    return row_keys(jax.random.key(options.seed), 0, jnp.arange(count))


def _count(rows: Batch) -> int:
    return len(next(iter(rows.values())))


def _grid(work: Work, lines: list[Batch]) -> Path:
    """Write batches of equal sizes as the columns of a picture: a line for each row."""
    shown = {}
    for name in work.spec.targets:
        each = np.stack([np.asarray(x[name]) for x in lines], 1)
        shown[name] = each.reshape(-1, *each.shape[2:])
    return work.save(shown, len(lines))


def _side(work: Work) -> tuple[int, int]:
    """Return the height and width of the images that the run makes.

    Raises:
      ConfigError: it makes none.
    """
    (name,) = work.spec.targets[:1]
    shape = work.spec[name].shape
    if len(shape) != 3 or shape[0] is None or shape[1] is None:
        raise ConfigError(f"the run makes {name} of shape {shape}", "use a run of images")
    return shape[0], shape[1]


def _inpaint(work: Work, options: Inpaint) -> Drawn:
    height, width = _side(work)
    known = np.ones((height, width), np.float32)
    if options.mask is None:
        rows, columns = (
            slice(*(None if e is None else round(e * n) for e in (s.start, s.stop)))
            for s, n in zip(HALVES[options.hole], (height, width), strict=True)
        )
        known[rows, columns] = 0.0
    else:
        known = 1.0 - _mask(Path(options.mask), height, width)
    return _completed(work, options, known)


def _mask(path: Path, height: int, width: int) -> Float[np.ndarray, "H W"]:
    """Return 1 where an image file is white and 0 where it is black; grey counts as the nearer one.

    Raises:
      DataError: the file is missing, or is no image.
    """
    element = Element((height, width, 1), "uint8", 256, "image", "condition")
    kind = kinds.of(element)
    assert kind is not None
    kinds.image_files(path, "edit.mask")
    found = kind.parse(str(path), "mask", element, 1, None)["mask"]
    return (found[0, :, :, 0] >= 128).astype(np.float32)


def _outpaint(work: Work, options: Outpaint) -> Drawn:
    height, width = _side(work)
    if options.margin >= 0.5:
        raise ConfigError(f"edit.margin={options.margin} leaves nothing", "give less than 0.5")
    known = np.zeros((height, width), np.float32)
    top, left = (round(options.margin * n) for n in (height, width))
    known[top : height - top, left : width - left] = 1.0
    return _completed(work, options, known)


def _completed(work: Work, options: Inpaint | Outpaint, known: Float[np.ndarray, "H W"]) -> Drawn:
    """Draw the rows, what is known of them, and completions of them."""
    if known.min() > 0 or known.max() <= 0:
        raise ConfigError("the mask hides nothing, or everything", "give another edit.mask or edit.margin")
    editor, rows = _begin(work, options)
    keys = _keys(options, _count(rows) * options.draws)
    made = [
        editor.inpaint(rows, jnp.asarray(known), keys[n :: options.draws], options.repeats, _how(options))
        for n in range(options.draws)
    ]
    hidden = {}
    for name in work.spec.targets:
        x = np.asarray(rows[name])
        hidden[name] = np.where(known[None, :, :, None] > 0, x, x.dtype.type(x.max() // 2))
    exact = all(
        np.array_equal(np.asarray(m[n])[:, known > 0], np.asarray(rows[n])[:, known > 0])
        for m in made
        for n in work.spec.targets
    )
    path = _grid(work, [rows, hidden, *made])
    share = 1.0 - known.mean()
    said = "equal the rows'" if exact else "differ from the rows'"
    return Drawn(
        path, f"{options.draws} completions of {share:.0%} of {_count(rows)} rows; known values {said}"
    )


def _vary(work: Work, options: Vary) -> Drawn:
    editor, rows = _begin(work, options)
    if max(options.strengths) > 1:
        raise ConfigError(f"edit.strengths={options.strengths} are times", "give at most 1")
    keys = _keys(options, _count(rows))
    made = [editor.vary(rows, keys, s, _how(options)) for s in options.strengths]
    gaps = ", ".join(
        f"{_psnr(work, rows, m):.1f} at {s:g}" for s, m in zip(options.strengths, made, strict=True)
    )
    return Drawn(_grid(work, [rows, *made]), f"PSNR to the rows: {gaps}")


def _restore(work: Work, options: Restore) -> Drawn:
    height, width = _side(work)
    if options.measure == "enlarge" and (height % options.factor or width % options.factor):
        raise ConfigError(
            f"edit.factor={options.factor} does not divide {height}x{width}", "give a divisor of both"
        )
    editor, rows = _begin(work, options)
    measure = options.operator()
    x_0, given = editor.read(rows)
    if x_0.shape[1:] != work.spec[work.spec.targets[0]].shape:
        raise ConfigError("restore measures images, and this run models codes of them", "use another run")
    measured = measure(x_0)
    noise = jax.random.normal(jax.random.key(options.seed), measured.shape)
    measured = measured + options.noise * noise
    inverse = editor.decode(measure.inverse(measured), given)
    keys = _keys(options, _count(rows))
    made = editor.restore(measured, measure, rows, keys, options.scale, _how(options))
    shown = editor.decode(measured if measured.shape == x_0.shape else measure.inverse(measured), given)
    before = _psnr(work, rows, inverse)
    after = _psnr(work, rows, made)
    found = f"PSNR: {before:.2f} of the pseudo-inverse, {after:.2f} of what was drawn"
    return Drawn(_grid(work, [rows, shown, inverse, made]), found)


def _steer(work: Work, options: Steer) -> Drawn:
    name = kinds.main_target(work.spec)
    if name is None or options.towards >= work.spec.classes():
        raise ConfigError(
            f"edit.towards={options.towards}: the data has {work.spec.classes()} classes", "name another"
        )
    editor, rows = _begin(work, options)
    logits = work.classifier().logits
    if logits is None:
        raise ConfigError("steer needs a classifier of the data", "name features that have one")

    def log_p(targets: Batch) -> Float[Array, " B"]:
        return jax.nn.log_softmax(logits(targets[name]))[:, options.towards]

    label = work.spec.label
    if options.label is None and options.guidance != 1:
        raise ConfigError(
            f"edit.guidance={options.guidance} has no effect: the network is told no class", "give edit.label"
        )
    if options.label is None and label in work.spec.conditions:
        # The class is the classifier's business: the network is not told.
        rows = {**rows, label: np.full(_count(rows), -1, np.int32)}
    keys = _keys(options, _count(rows))
    made = [editor.steer(log_p, rows, keys, scale, _how(options)) for scale in options.scales]
    share = [float((jnp.argmax(logits(m[name]), -1) == options.towards).mean()) for m in made]
    shown = {name: np.concatenate([np.asarray(m[name]) for m in made])}
    said = ", ".join(f"{p:.0%} at {s:g}" for s, p in zip(options.scales, share, strict=True))
    return Drawn(work.save(shown, _count(rows)), f"taken for class {options.towards}: {said}")


def _interpolate(work: Work, options: Interpolate) -> Drawn:
    editor, rows = _rows(work, options)
    if _count(rows) < 2 or options.points < 2:
        raise ConfigError("a path needs two rows and two points", "give more edit.rows or edit.points")
    first = {name: x[:-1] for name, x in rows.items()}
    second = {name: x[1:] for name, x in rows.items()}
    made = editor.between(first, second, options.points, How(steps=options.steps))
    ends = {name: np.asarray(x)[:: options.points] for name, x in made.items()}
    found = f"{_count(first)} paths; PSNR of their first ends {_psnr(work, first, ends):.1f}"
    return Drawn(work.save(made, options.points), found)


def _psnr(work: Work, truth: Batch, made: Batch) -> float:
    """Return the mean peak signal-to-noise ratio of images, in decibels; real values by their own range."""
    name = work.spec.targets[0]
    levels = work.spec[name].levels
    top = levels - 1 if levels else float(np.ptp(np.asarray(truth[name])))
    unit = lambda x: np.asarray(x[name], np.float64).reshape(len(x[name]), -1) / top
    return float(psnr(unit(made), unit(truth)).mean())


_VERBS: dict[str, tuple[type, Callable[..., Drawn]]] = {
    "inpaint": (Inpaint, _inpaint),
    "outpaint": (Outpaint, _outpaint),
    "vary": (Vary, _vary),
    "restore": (Restore, _restore),
    "steer": (Steer, _steer),
    "interpolate": (Interpolate, _interpolate),
}
VERBS = tuple(_VERBS)
