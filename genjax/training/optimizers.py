"""Build the optimizer and the learning-rate schedule of one player from a config."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from genjax import plugins
from genjax.config import Count, Natural, NotNegative, Positive, Range, Rate, Regex, Share, check
from genjax.core import Model, Tree
from genjax.errors import ConfigError

# Input (i) and output (o) axes of a kernel, aligned at the right. Axes to the left of the word are a stack
# of matrices (layers under a scan, experts). Linen's own attention has kernels of shape (model, heads,
# features), and (heads, features, model) for the output projection.
AXES = (
    (r"(SelfAttention|DotProductAttention)\w*/(query|key|value)/kernel$", "ioo"),
    (r"(SelfAttention|DotProductAttention)\w*/out/kernel$", "iio"),
    (r"(^|/)kernel$", "iiio"),  # convolutions; kernels of fewer axes go on to the next
    (r"(^|/)kernel$", "io"),
)


POINTS = 1025
"""Points of a schedule between which the learning rates of a log are interpolated."""
NAMES = ("sgd", "adam", "adamw", "lion", "muon")


class Axes:
    """Declare that a text names the axes of a kernel by the letters of AXES."""

    def fault(self, value: str) -> str | None:
        return None if set(value) <= set("iob") else "has other letters than i, o and b"

    def __str__(self) -> str:
        return "a word of the letters i, o and b"


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure an optimizer and its schedule.

    Attributes:
      name: sgd, adam, adamw, lion or muon (Jordan 2024: orthogonalised momentum for the matrices, AdamW
        for everything else); or the dotted path of a module with a function `build(config, learning_rate,
        decayed)` that returns an optax transformation of these fields, a schedule and the mask of decay.
      learning_rate: the peak of the schedule.
      b1, b2, eps: of adam, adamw, lion and of muon's AdamW part; lion's usual values are 0.9 and 0.99.
      momentum: of sgd (0: none) and muon.
      nesterov: Nesterov's form of the momentum of sgd and muon.
      weight_decay: decoupled (scaled by the learning rate alone) for adamw, lion and muon; L2 for sgd.
      decay_mask: regex; leaves whose path it is found in are decayed. None for leaves named kernel or
        embedding with two axes or more. The name matters: biases and norms of stacked layers have two axes.
      clip: global norm that the player's gradient is clipped to; None for no clipping.
      schedule: constant, cosine, linear (to `end`) or wsd (warm-up, stable, linear decay).
      warmup: updates from 0 to the peak; a number below 1 is a fraction of the run's updates.
      decay_steps: in updates; for cosine and linear the end of the decay, counted from the first update
        (None for the whole run), for wsd the length of the decay (None for a fifth of the run).
      end: the last learning rate, as a fraction of the peak.
      muon_axes: (regex, axes) pairs tried before the usual ones (`optimizers.AXES`); a leaf whose path
        has no match, or an empty word, gets AdamW.
      muon_exclude: regex; leaves that get AdamW: embeddings and what reads out of the network.
      consistent_rms: muon's update is scaled to this root mean square, so that AdamW's learning rates
        hold (Liu et al. 2025, arXiv:2502.16982, eq. 4); None for Jordan's own scaling.
      options: of an optimizer outside genjax.
    """

    name: Annotated[str, plugins.Entry(__name__, "optimizer", builtin=NAMES)] = "adamw"
    learning_rate: Annotated[float, Range(least=0, most=1000)] = 3e-4
    b1: Rate = 0.9
    b2: Rate = 0.999
    eps: Share = 1e-8
    momentum: Rate = 0.95
    nesterov: bool = True
    weight_decay: NotNegative = 0.0
    decay_mask: Regex | None = None
    clip: Positive | None = None
    schedule: Literal["constant", "cosine", "linear", "wsd"] = "constant"
    warmup: Natural | Rate = 0
    decay_steps: Count | None = None
    end: Share = 0.0
    muon_axes: tuple[tuple[Regex, Annotated[str, Axes()]], ...] = ()
    muon_exclude: Regex = r"embed|logits|head(/|$)|readout"
    consistent_rms: Positive | None = 0.2
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check(self)
        if self.options and self.name in NAMES:
            raise ValueError(f"options {sorted(self.options)} are for an optimizer outside genjax")
        if self.name == "adam" and self.weight_decay:
            raise ValueError("adam has no weight decay: name adamw, whose decay is decoupled")
        object.__setattr__(self, "muon_axes", tuple((str(r), str(a)) for r, a in self.muon_axes))


def learning_rate(config: Config, total_steps: int) -> optax.Schedule:
    """Return the schedule: updates made so far -> learning rate.

    Raises:
      ConfigError: warm-up and decay do not fit into the run.
    """
    peak = config.learning_rate
    end = config.end * peak
    warmup = warmup_updates(config, total_steps)
    warm = optax.linear_schedule(0.0, peak, warmup)
    at: list[int] = []  # updates at which the next part begins
    if config.schedule == "constant":
        parts = [optax.constant_schedule(peak)]
    elif config.schedule == "wsd":
        decay = config.decay_steps or max(total_steps // 5, 1)
        stable = total_steps - warmup - decay
        _fits(stable >= 0, config, total_steps)
        parts = [optax.constant_schedule(peak), optax.linear_schedule(peak, end, decay)]
        at = [stable]
    else:
        length = (config.decay_steps or total_steps) - warmup
        _fits(length > 0, config, total_steps)
        cosine = config.schedule == "cosine"
        decay = optax.cosine_decay_schedule(peak, length, config.end) if cosine else None
        parts = [decay or optax.linear_schedule(peak, end, length)]
    if not warmup:
        return optax.join_schedules(parts, at) if at else parts[0]
    return optax.join_schedules([warm, *parts], [warmup, *(warmup + n for n in at)])


def warmup_updates(config: Config, total_steps: int) -> int:
    """Return the updates of the warm-up in a run of `total_steps` updates."""
    return round(config.warmup * total_steps) if config.warmup < 1 else int(config.warmup)


def updates(every: Sequence[int], steps: int) -> int:
    """Count the updates of a player after `steps` steps, given the intervals of its phases."""
    return sum(-(-steps // n) for n in every)


def rates(config: Config, total_steps: int, counts: Sequence[int]) -> np.ndarray:
    """Return the learning rate of the last of `counts` updates, for each count, on the host.

    For logs: evaluating the schedule during training would wait for the devices.
    """
    if not len(counts):
        return np.zeros(0)
    schedule = learning_rate(config, total_steps)
    last = np.maximum(np.asarray(counts, np.int32) - 1, 0)
    return np.asarray(jax.jit(jax.vmap(lambda n: jnp.asarray(schedule(n), jnp.float32)))(last), np.float64)


def of_players(
    model: Model, configs: Mapping[str, Config], steps: int, every: int
) -> tuple[dict[str, optax.GradientTransformation], Callable[[int], dict[str, float]]]:
    """Return each player's optimizer, and its learning rate at a log line as a function of the step.

    Args:
      configs: {player: its optimizer}.
      steps: of the run.
      every: steps from one log line to the next; 0 for no lines.

    Raises:
      ConfigError: as `make`.
    """
    lines = range(0, steps + 1, every) if every else ()
    transforms = {}
    learning_rates = {}
    for p in model.players:
        intervals = _intervals(model, p)
        total = max(updates(intervals, steps), 1)
        config = corrected(configs[p], model, p)
        transforms[p] = make(config, total, factors(model, p))
        learning_rates[p] = rates(config, total, [updates(intervals, n) for n in lines])
    return transforms, lambda step: {p: found[step // every] for p, found in learning_rates.items()}


def corrected(config: Config, model: Model, player: str) -> Config:
    """Return the optimizer of a player, slower in Adam's terms by the updates that lazy penalties add.

    With a penalty at every k-th step a player makes 1 + 1/k updates per step. With c = k / (k + 1), Adam's
    learning rate is multiplied by c, and b1 and b2 are raised to the power c (Karras et al. 2020,
    arXiv:1912.04958, appendix B). Other optimizers are left as they are.
    """
    share = {True: 0.0, False: 0.0}
    for phase in model.phases.values():
        if phase.player == player:
            share[phase.evaluated] += 1.0 / phase.interval
    if config.name not in ("adam", "adamw") or not share[True] or not share[False]:
        return config
    c = share[True] / (share[True] + share[False])
    moments = {"b1": config.b1**c, "b2": config.b2**c}
    return dataclasses.replace(config, learning_rate=c * config.learning_rate, **moments)


def _intervals(model: Model, player: str) -> list[int]:
    return [phase.interval for phase in model.phases.values() if phase.player == player]


def stretched_of_players(
    model: Model, configs: Mapping[str, Config], steps: int
) -> tuple[dict[str, optax.GradientTransformation], Callable[[float], dict[str, float]]]:
    """Return each player's optimizer, and its learning rate as a function of the fraction that is past.

    For a run that is limited by seconds; see `stretched`. The rates are for logs, and interpolated between
    POINTS points of the schedule.

    Args:
      configs: {player: its optimizer}.
      steps: for which the schedules are written.

    Raises:
      ConfigError: as `make`.
    """
    transforms = {}
    tables = {}
    points = np.linspace(0.0, 1.0, POINTS)
    for p in model.players:
        total = max(updates(_intervals(model, p), steps), 1)
        config = corrected(configs[p], model, p)
        transforms[p] = stretched(config, total, factors(model, p))
        schedule = learning_rate(config, total)
        found = jax.jit(jax.vmap(lambda x, schedule=schedule: jnp.asarray(schedule(x), jnp.float32)))
        tables[p] = np.asarray(found((points * total).astype(np.float32)), np.float64)
    return transforms, lambda past: {p: float(np.interp(past, points, t)) for p, t in tables.items()}


def _fits(right: bool, config: Config, total_steps: int) -> None:
    if not right:
        raise ConfigError(
            f"optimizer: warmup={config.warmup} and decay_steps={config.decay_steps} of schedule "
            f"{config.schedule!r} do not fit into {total_steps} updates",
            "shorten them, or train for more steps",
        )


Factors = Callable[[Tree], Tree]
"""params -> a tree like them of factors on the learning rate, Python numbers when traced."""


def factors(model: Model, player: str) -> Factors | None:
    """Return the model's factors on the learning rate of a player's parameters; None for 1 everywhere."""
    if model.learning_rate_multipliers is None:
        return None
    return functools.partial(model.learning_rate_multipliers, player)


def make(config: Config, total_steps: int, factors: Factors | None = None) -> optax.GradientTransformation:
    """Return the optimizer of one player, for `total_steps` updates in all.

    Args:
      factors: on the learning rate of each leaf; for adam, adamw and lion only, whose step size does not
        depend on the gradient's scale. Weight decay uses the schedule's rate without them, so that it does
        not vanish as the width grows.

    Raises:
      ConfigError: the schedule does not fit into the run, or the optimizer takes no factors.
    """
    return _with_rate(config, learning_rate(config, total_steps), factors)


def _with_rate(config: Config, rate: optax.Schedule, factors: Factors | None) -> optax.GradientTransformation:
    """Return the optimizer of `make` with this schedule."""
    adam: dict[str, Any] = {"b1": config.b1, "b2": config.b2, "eps": config.eps}
    decay: dict[str, Any] = {"weight_decay": config.weight_decay, "mask": lambda p: decayed(config, p)}
    if factors is not None:
        tx = _scaled(config, rate, adam, decay, factors)
    elif config.name == "sgd":
        momentum = config.momentum or None
        tx = optax.sgd(rate, momentum, nesterov=config.nesterov and momentum is not None)
        if config.weight_decay:
            tx = optax.chain(optax.add_decayed_weights(**decay), tx)
    elif config.name == "adam":
        tx = optax.adam(rate, **adam)
    elif config.name == "adamw":
        tx = optax.adamw(rate, **adam, **decay)
    elif config.name == "lion":
        tx = optax.lion(rate, b1=config.b1, b2=config.b2, **decay)
    elif config.name == "muon":
        tx = _muon(config, rate, adam, decay)
    else:
        tx = _outside(config, rate)
    return tx if config.clip is None else optax.chain(optax.clip_by_global_norm(config.clip), tx)


def stretched(
    config: Config, total_steps: int, factors: Factors | None = None
) -> optax.GradientTransformationExtraArgs:
    """Return an optimizer whose update takes the fraction of the run that is past, as `progress`.

    Its learning rate at the fraction x is that of the schedule, which is written for `total_steps` updates,
    at update x * total_steps. Its state is that of `make`.

    Raises:
      ConfigError: as `make`.
    """
    schedule = learning_rate(config, total_steps)

    def update(updates: Tree, state: Any, params: Tree | None = None, **extra: Any) -> tuple[Tree, Any]:
        rate = schedule(extra["progress"] * total_steps)
        return _with_rate(config, lambda count: rate, factors).update(updates, state, params)

    init = _with_rate(config, optax.constant_schedule(0.0), factors).init
    return optax.GradientTransformationExtraArgs(init, update)


def _outside(config: Config, rate: optax.Schedule) -> optax.GradientTransformation:
    """Return the optimizer of a module outside the package.

    Raises:
      ConfigError: no such module, or one without a function `build`.
    """
    module = plugins.load(__name__, config.name, "optimizer", ("build",))
    return module.build(config, rate, functools.partial(decayed, config))


def _scaled(
    config: Config, rate: optax.Schedule, adam: dict[str, Any], decay: dict[str, Any], factors: Factors
) -> optax.GradientTransformation:
    """Return adam, adamw or lion with a factor on the step of every leaf, applied before the decay."""
    if config.name not in ("adam", "adamw", "lion"):
        raise ConfigError(
            f"optimizer {config.name!r} does not support the learning-rate multipliers of this model",
            "use adam, adamw or lion, or switch off the maximal-update parametrisation (model.mup_base)",
        )
    lion = config.name == "lion"
    direction = optax.scale_by_lion(config.b1, config.b2) if lion else optax.scale_by_adam(**adam)
    scale = optax.stateless(lambda g, p: jax.tree.map(lambda f, x: f * x, factors(p), g))
    parts = [direction, scale]
    if config.name != "adam":
        parts.append(optax.add_decayed_weights(**decay))
    return optax.chain(*parts, optax.scale_by_learning_rate(rate))


def decayed(config: Config, params: Tree) -> Tree:
    """Return a tree like params: True at each leaf that weight decay acts on."""

    def one(path: Any, x: Any) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if config.decay_mask is not None:
            return re.search(config.decay_mask, name) is not None
        return x.ndim >= 2 and re.search(r"(^|/)(kernel|embedding)$", name) is not None

    return jax.tree_util.tree_map_with_path(one, params)


def muon_dimensions(config: Config, params: Tree) -> Tree:
    """Return optax's MuonDimensionNumbers at each leaf that muon orthogonalises, None at those of AdamW.

    Without them, optax silently gives every leaf that does not have exactly two axes to AdamW.
    """

    def one(path: Any, x: Any) -> optax.contrib.MuonDimensionNumbers | None:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if x.ndim < 2 or re.search(config.muon_exclude, name):
            return None
        for rule, axes in (*config.muon_axes, *AXES):
            if len(axes) <= x.ndim and re.search(rule, name):
                at = [axes.rjust(x.ndim, "b")[n] for n in range(x.ndim)]
                reduced, written = ([n for n, a in enumerate(at) if a == kind] for kind in "io")
                return optax.contrib.MuonDimensionNumbers(reduced, written) if reduced and written else None
        return None

    return jax.tree_util.tree_map_with_path(one, params)


def _muon(config: Config, rate: optax.Schedule, adam: dict[str, Any], decay: dict[str, Any]):
    # Not optax.contrib.muon: its AdamW part has neither a decay mask of its own nor plain (non-Nesterov)
    # moments.
    def dimensions(params: Tree) -> Tree:
        return muon_dimensions(config, params)

    def label(dims: Any) -> str:
        return "adamw" if dims is None else "muon"

    def labels(params: Tree) -> Tree:
        return jax.tree.map(label, dimensions(params), is_leaf=_is_dimensions)

    muon = optax.chain(
        optax.contrib.scale_by_muon(
            beta=config.momentum, nesterov=config.nesterov, weight_dimension_numbers=dimensions
        ),
        _scale_by_shape(dimensions, config.consistent_rms),
        optax.add_decayed_weights(**decay),
        optax.scale_by_learning_rate(rate),
    )
    return optax.partition({"muon": muon, "adamw": optax.adamw(rate, **adam, **decay)}, labels)


def _scale_by_shape(dimensions: Callable[[Tree], Tree], rms: float | None) -> optax.GradientTransformation:
    """Scale each orthogonalised update so that its size does not depend on the size of the matrix."""

    def scale(dims: Any, g: jax.Array) -> jax.Array:
        if dims is None:
            return g
        read, written = (math.prod(g.shape[n] for n in axes) for axes in dims)
        # An orthogonal (read x written) matrix has a root mean square of 1 / sqrt(max(read, written)).
        return g * (math.sqrt(max(1, written / read)) if rms is None else rms * math.sqrt(max(read, written)))

    return optax.stateless(lambda g, _: jax.tree.map(scale, dimensions(g), g, is_leaf=_is_dimensions))


def _is_dimensions(x: Any) -> bool:
    return x is None or isinstance(x, optax.contrib.MuonDimensionNumbers)
