"""Configure super-resolution by interpolation, by regression and by a GAN, for `genjax compare`.

genjax compare --config=experiments/superres/compare.py:mnist5k     (or emoji, with the originals; or smoke)

With `_x4` after the name (emoji_x4) the factor is 4, else 2.
"""

from ml_collections import ConfigDict

STEPS = 2000
FORMS = {
    "bicubic": ("bicubic interpolation", ("model.network=bicubic",)),
    "regression": ("regression", ()),
    "gan": ("GAN", ("model.adversary={'weight': 0.1}",)),
    "gan_1": ("GAN, ten times the weight", ("model.adversary={'weight': 1.0}",)),
}
"""{entry: (name, overrides of DATA/superres)}."""


def get_config(size: str = "mnist5k") -> ConfigDict:
    """Return the comparison on this data."""
    config = ConfigDict()
    smoke = size == "smoke"
    data = "mnist5k" if smoke else size.removesuffix("_x4")
    factor = ("data.downsample=4",) if size.endswith("_x4") else ()
    suffix = ":smoke" if smoke else ""
    config.name = f"superres-{size}"
    config.seed = 0
    config.title = f"Super-resolution x{4 if factor else 2}, {data}"
    config.budget = {"kind": "steps", "value": 8 if smoke else STEPS}
    config.features = f"classifier:{data}/classifier{suffix}"
    forms = {k: v for k, v in FORMS.items() if k in ("regression", "gan") or not smoke}
    entries = {
        name: {"config": f"{data}/superres{suffix}", "family": family, "overrides": (*changes, *factor)}
        for name, (family, changes) in forms.items()
    }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    config.evaluate = {"metrics": ("psnr", "ssim", "frechet")}
    return config
