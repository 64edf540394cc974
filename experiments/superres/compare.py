"""Configure super-resolution x2 by interpolation, by regression and by a GAN, for `genjax compare`.

genjax compare --config=experiments/superres/compare.py:mnist5k     (or emoji, with the originals; or smoke)
"""

from ml_collections import ConfigDict

STEPS = 2000
FORMS = {
    "bicubic": ("bicubic interpolation", ("model.network=bicubic",)),
    "regression": ("regression", ()),
    "gan": ("GAN", ("model.adversary={'weight': 0.1}",)),
}
"""{entry: (name, overrides of DATA/superres)}."""


def get_config(size: str = "mnist5k") -> ConfigDict:
    """Return the comparison on this data."""
    config = ConfigDict()
    smoke = size == "smoke"
    data = "mnist5k" if smoke else size
    suffix = ":smoke" if smoke else ""
    config.name = f"superres-{size}"
    config.seed = 0
    config.title = f"Super-resolution x2, {data}"
    config.budget = {"kind": "steps", "value": 8 if smoke else STEPS}
    config.features = f"classifier:{data}/classifier{suffix}"
    forms = {k: v for k, v in FORMS.items() if not smoke or k != "bicubic"}
    entries = {
        name: {"config": f"{data}/superres{suffix}", "family": family, "overrides": changes}
        for name, (family, changes) in forms.items()
    }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    config.evaluate = {"metrics": ("psnr", "ssim", "frechet")}
    return config
