"""Configure a diffusion model: see models/diffusion.py."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from genjax.config import Count, Layers, Positive, Range, Rate, Share, Signed, Width, check, unused
from genjax.core import Element
from genjax.errors import ConfigError
from genjax.functional import diffusion as gaussian
from genjax.functional import schedules
from genjax.nn.activations import Activation


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a diffusion model.

    Attributes:
      network: "unet" or "transformer" (DiT) for images (H, W, C), "mlp" for any shape (flattened); "auto"
        takes the U-Net for images and the MLP for vectors.
      width: channels at the full size; of the residual stream of the MLP and the transformer. Even; a
        multiple of 4 for the transformer.
      multipliers: of the width, one per level of the U-Net; each level halves the size.
      blocks: residual blocks per level of the U-Net; blocks in all of the MLP and the transformer.
      attention: image sizes at which blocks of the U-Net are followed by attention; the lowest level always
        has one.
      head: channels of an attention head of the U-Net and the transformer.
      groups: of the U-Net's group normalisation.
      patch: side of the transformer's patches in pixels.
      position: of the transformer: "absolute", sines that are added to the patches; or "rotary", of rows and
        columns (`head` is a multiple of 4).
      activation: of the transformer's MLP; the gated ones have two thirds of the hidden features.
      norm: of the transformer: "rms", or "layer" (the paper's).
      qk_norm: normalise the queries and keys of the transformer.
      biases: learn biases in the transformer's projections.
      frequencies: width of the sinusoid of the time; None for `width`.
      sines: order of the sinusoid: "first" before the cosines, "last" after them, or "shifted", last with the
        frequencies of diffusers' DiT.
      dropout: rate in the residual blocks.
      schedule: the betas of the chain: "linear" (Ho et al. 2020) or "cosine" (Nichol & Dhariwal 2021); or a
        continuous path: "straight", that of flow matching (Liu et al. 2023), "vp", the limit of "linear",
        "exploding" (Song et al. 2021) or "edm" (Karras et al. 2022).
      timesteps: T, the steps of the chain; of a continuous path, those of the bound.
      times: distribution of the training times: "uniform", "logit_normal" (Esser et al. 2024,
        arXiv:2403.03206, sec. 3.1), or "lognormal", a normal distribution of log(sigma / alpha) (EDM).
      times_mean, times_std: of "logit_normal" (0 and 1 in the paper) and "lognormal" (-1.2 and 1.2).
      shift: of the times, t -> shift t / (1 + (shift - 1) t): above 1 there is more noise, as large images
        need (Esser et al. 2024, eq. 23). Sampling shifts its
        times, too, unless its spacing is one of noise levels.
      prediction: output of the network: "noise", "data", "velocity", "flow_velocity", "score" or "edm" (see
        functional.diffusion).
      data_std: sigma_data, of the prediction and the weighting "edm".
      weighting: of the squared error over times: "uniform", "snr", "min_snr", "edm", "sigmoid" or "bound".
      gamma: of "min_snr".
      bias: of "sigmoid".
      label_dropout: share of training rows whose label is hidden, which guidance needs.
      variance: of the reverse steps in the bound: "small" or "large".
      dtype: of the network's computation; parameters are float32.
      remat: recompute activations of the U-Net or the transformer in the backward pass: less memory, more
        time.
    """

    network: Literal["auto", "unet", "transformer", "mlp"] = "auto"
    width: Width = 32
    multipliers: tuple[Width, ...] = (1, 2, 2)
    blocks: Layers = 2
    attention: tuple[Count, ...] = ()
    head: Width = 32
    groups: Width = 8
    patch: Width = 2
    position: Literal["absolute", "rotary"] = "absolute"
    activation: Activation = "relu2"
    norm: Literal["rms", "layer"] = "rms"
    qk_norm: bool = True
    biases: bool = False
    frequencies: Width | None = None
    sines: Literal["first", "last", "shifted"] = "first"
    dropout: Rate = 0.0
    schedule: schedules.Schedule = "linear"
    timesteps: Annotated[int, Range(least=1, most=1_000_000)] = 1000
    times: Literal["uniform", "logit_normal", "lognormal"] = "uniform"
    times_mean: Signed | None = None
    times_std: Positive | None = None
    shift: Positive = 1.0
    prediction: gaussian.Prediction = "noise"
    data_std: Positive = 0.5
    weighting: gaussian.Weighting = "uniform"
    gamma: Positive = 5.0
    bias: Signed = 0.0
    label_dropout: Share = 0.1
    variance: gaussian.Variance = "small"
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False

    def __post_init__(self):
        check(self)
        if self.times == "uniform":
            unused(self, "times", "times_mean", "times_std")
        if "edm" not in (self.prediction, self.weighting):
            unused(self, "prediction", "data_std")
        if self.weighting != "min_snr":
            unused(self, "weighting", "gamma")
        if self.weighting != "sigmoid":
            unused(self, "weighting", "bias")


TRANSFORMER = ("position", "activation", "norm", "qk_norm", "biases")
NETWORK = (
    *("network", "width", "multipliers", "blocks", "attention", "head", "groups", "patch", "dropout"),
    *("frequencies", "sines", "dtype", "remat", *TRANSFORMER),
)
"""Fields of the config that belong to the network."""
UNUSED = {
    "unet": ("patch", *TRANSFORMER),
    "transformer": ("multipliers", "attention", "groups"),
    "mlp": ("multipliers", "attention", "head", "groups", "patch", "remat", *TRANSFORMER),
}
"""Fields of the config that a network does not have."""


TIMES = {"logit_normal": (0.0, 1.0), "lognormal": (-1.2, 1.2)}
"""The default mean and standard deviation of a distribution of times."""


def network_of(config: Config, name: str, element: Element) -> Literal["unet", "transformer", "mlp"]:
    """Return the network for this element."""
    if config.network == "auto":
        return "unet" if len(element.shape) == 3 else "mlp"
    if config.network != "mlp" and len(element.shape) != 3:
        raise ConfigError(
            f"the network {config.network!r} needs a target (H, W, C); {name} has shape {element.shape}",
            "set model.network to mlp",
        )
    return config.network


def check_fit(config: Config, element: Element) -> None:
    """Refuse fields that the network does not use, and sizes that do not fit each other."""
    for field in UNUSED[config.network]:
        if getattr(config, field) != Config.__dataclass_fields__[field].default:
            raise ConfigError(
                f"model.{field} has no effect on the network {config.network!r}", "leave it out"
            )
    if config.schedule == "straight" and config.prediction in ("noise", "score"):
        raise ConfigError(
            f"model.prediction={config.prediction!r} does not determine the data at time 1 of the schedule "
            "'straight'",
            "set model.prediction to flow_velocity, velocity, edm or data",
        )
    if config.network != "transformer":
        return
    if any(side % config.patch for side in element.shape[:2]):
        raise ConfigError(
            f"model.patch={config.patch} does not divide the image's size {element.shape[:2]}",
            "choose a divisor of both sides",
        )
    if config.width % 4 or config.width % config.head:
        raise ConfigError(
            f"model.width={config.width} must be a multiple of 4 and of model.head={config.head}",
            "change one of them",
        )
    if config.position == "rotary" and config.head % 4:
        raise ConfigError(
            f"model.head={config.head}: rotary positions of rows and columns need a multiple of 4",
            "change model.head",
        )
