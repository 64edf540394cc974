"""Compare parametrisations of diffusion on 5,000 real 28x28 digits, 300 seconds of training each.

    genjax compare --config=compare/diffusion     (or compare/diffusion:seeds, three trainings of each)

Noise, velocity, EDM and flow matching with one network and one optimizer. Writes
runs/compare-diffusion/report.html.
"""

from ml_collections import ConfigDict

VP = ("model.times=uniform", "model.variance=small")
EDM_DATA = 0.6
"""The standard deviation of the digits in [-1, 1]."""
FORMS = {
    "noise": ("Noise, linear betas", ("model.schedule=linear", "model.prediction=noise", *VP)),
    "velocity": ("Velocity, cosine", ("model.schedule=cosine", "model.prediction=velocity", *VP)),
    "edm": (
        "EDM",
        (
            "model.schedule=edm",
            "model.prediction=edm",
            "model.times=lognormal",
            f"model.data_std={EDM_DATA}",
            "sample={'sampler': 'heun', 'steps': 13, 'spacing': 'karras', 'guidance': 1.5}",
        ),
    ),
    "flow": ("Flow matching", ()),
}
"""{entry: (family, overrides of mnist5k/diffusion)}."""


def get_config(size: str = "full") -> ConfigDict:
    smoke = size == "smoke"
    suffix = ":smoke" if smoke else ""
    config = ConfigDict()
    config.name = "diffusion" if size == "full" else f"diffusion-{size}"
    config.title = "Parametrisations of diffusion on real 28x28 digits"
    config.seed = 0
    config.seeds = 3 if size == "seeds" else 1
    config.budget = {"kind": "steps", "value": 8} if smoke else {"kind": "seconds", "value": 300}
    config.features = "classifier:mnist5k/classifier" + suffix
    entries = {
        name: {"config": "mnist5k/diffusion" + suffix, "family": family, "overrides": changes}
        for name, (family, changes) in FORMS.items()
    }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    if smoke:
        config.evaluate = {"samples": 32, "sets": 2}
    return config
