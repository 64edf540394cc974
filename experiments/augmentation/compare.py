"""Configure StyleGAN2 on 1,711 emoji with and without augmentation, for `genjax compare`.

GENJAX_ORIGINALS=... genjax compare --config=experiments/augmentation/compare.py:full    (or smoke)
python -m experiments.augmentation runs/compare-augmentation-full    # the curves of r_t and p as a picture
"""

from ml_collections import ConfigDict

KINDS = {
    "none": ("none", "model.augment={'kind': 'none'}"),
    "ada": ("adaptive", "model.augment={'kind': 'ada', 'examples': 50_000.0}"),
    "diff": ("DiffAugment", "model.augment={'kind': 'diff'}"),
}
"""{entry: (name, override of emoji/stylegan2)}."""
STEPS = 3000


def get_config(size: str = "full") -> ConfigDict:
    """Return the comparison of this size."""
    config = ConfigDict()
    smoke = size == "smoke"
    config.name = f"augmentation-{size}"
    config.seed = 0
    config.title = "StyleGAN2 on 1,711 emoji, with and without augmentation"
    config.budget = {"kind": "steps", "value": 8 if smoke else STEPS}
    config.features = "classifier:emoji/classifier" + (":smoke" if smoke else "")
    config.floor = smoke  # the held-out split has 200 rows
    width = () if smoke else ("model.network.width=16", "model.network.widest=64")
    entries = {
        name: {
            "config": "emoji/stylegan2" + (":smoke" if smoke else ""),
            "family": f"StyleGAN2, {family}",
            "overrides": (override, *width, "train.sample_every=250", "train.log_every=50"),
        }
        for name, (family, override) in KINDS.items()
    }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    config.evaluate = {"samples": 32 if smoke else 1000, "sets": 1 if smoke else 3}
    return config
