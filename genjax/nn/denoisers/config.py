"""Configure a diffusion model and its network: see models/diffusion.py."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from genjax.config import (
    Count,
    Folder,
    Layers,
    Natural,
    Positive,
    Range,
    Rate,
    Share,
    Signed,
    Width,
    check,
    unused,
)
from genjax.core import Element
from genjax.errors import ConfigError
from genjax.functional import diffusion as gaussian
from genjax.functional import schedules
from genjax.nn.activations import Activation


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a diffusion model.

    Attributes:
      network: for images (H, W, C) "unet", "transformer" (DiT), "ldm_unet" (that of latent diffusion, which
        can read text) or "edm2_unet" (magnitude-preserving); "mlp" for any shape (flattened); "auto" takes
        the U-Net for images and the MLP for vectors.
      width: channels at the full size; of the residual stream of the MLP and the transformer. Even; a
        multiple of 4 for the transformer.
      multipliers: of the width, one per level of the U-Net; each level halves the size.
      blocks: residual blocks per level of the U-Net; blocks in all of the MLP and the transformer.
      attention: image sizes at which blocks of a U-Net are followed by attention (of "ldm_unet" by a
        transformer, if it reads text); the lowest level always has one.
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
      text: read the text that the data has as a condition ("transformer" and "ldm_unet").
      text_layers: of the transformer that encodes the text.
      dropout: rate in the residual blocks.
      schedule: the betas of the chain: "linear" (Ho et al. 2020) or "cosine" (Nichol & Dhariwal 2021); or a
        continuous path: "straight", that of flow matching (Liu et al. 2023), "vp", the limit of "linear",
        "exploding" (Song et al. 2021) or "edm" (Karras et al. 2022); or "learned", a monotone network of the
        variational diffusion model, whose ends minimise the bound and whose inside the variance of its
        estimate (Kingma et al. 2021, arXiv:2107.00630, app. H).
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
      label_dropout: share of training rows whose label, and text, is hidden, which guidance needs.
      self_condition: the network also reads its estimate of the step before (Chen et al. 2023,
        arXiv:2208.04202, sec. 2.2).
      variance: of the reverse steps in the bound: "small", "large", or "learned" between both (Nichol &
        Dhariwal 2021, sec. 3.1).
      variance_weight: lambda, of the bound in the loss of a learned variance.
      guide: the stage of a weaker diffusion, such as a smaller one trained for less time, which guidance
        leads away from in place of no label (autoguidance; Karras et al. 2024, arXiv:2406.02507).
      dtype: of the network's computation; parameters are float32.
      remat: recompute activations of the U-Net or the transformer in the backward pass: less memory, more
        time.
    """

    network: Literal["auto", "unet", "transformer", "mlp", "ldm_unet", "edm2_unet"] = "auto"
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
    text: bool = False
    text_layers: Natural = 2
    dropout: Rate = 0.0
    schedule: schedules.Schedule | Literal["learned"] = "linear"
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
    self_condition: bool = False
    variance: gaussian.Variance = "small"
    variance_weight: Positive = 0.001
    guide: Folder | None = None
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
        if self.variance != "learned":
            unused(self, "variance", "variance_weight")
        if not self.text:
            unused(self, "text", "text_layers")
        if self.schedule == "learned":
            wanted = {"weighting": "bound", "times": "uniform", "shift": 1.0}
            for name, value in wanted.items():
                if getattr(self, name) != value:
                    raise ValueError(f"{name}={getattr(self, name)!r}: schedule='learned' needs {value!r}")
            if self.variance == "learned":
                raise ValueError("variance='learned' and schedule='learned' are learned by different losses")


TRANSFORMER = ("position", "activation", "norm", "qk_norm", "biases")
NETWORK = (
    *("network", "width", "multipliers", "blocks", "attention", "head", "groups", "patch", "dropout"),
    *("frequencies", "sines", "dtype", "remat", *TRANSFORMER),
)
"""Fields of the config that belong to the network."""
UNUSED = {
    "unet": ("patch", "text", *TRANSFORMER),
    "ldm_unet": ("patch", *TRANSFORMER),
    "edm2_unet": ("patch", "groups", "text", "frequencies", "sines", *TRANSFORMER),
    "transformer": ("multipliers", "attention", "groups"),
    "mlp": ("multipliers", "attention", "head", "groups", "patch", "remat", "text", *TRANSFORMER),
}
"""Fields of the config that a network does not have."""


TIMES = {"logit_normal": (0.0, 1.0), "lognormal": (-1.2, 1.2)}
"""The default mean and standard deviation of a distribution of times."""


def network_of(config: Config, name: str, element: Element) -> Any:
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
    if config.network in ("ldm_unet", "edm2_unet"):
        halvings = len(config.multipliers) - 1
        if any((side or 0) % 2**halvings for side in element.shape[:2]):
            raise ConfigError(
                f"model.multipliers={config.multipliers}: images of {element.shape[:2]} cannot be halved "
                f"{halvings} times",
                "give fewer, or the network 'unet', which takes any size",
            )
        if config.width % config.head:
            raise ConfigError(
                f"model.width={config.width} is no multiple of model.head={config.head}", "change one of them"
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
