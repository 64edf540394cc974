"""Configure StyleGAN2 on 1,711 emoji with and without augmentation, for `genjax compare`.

GENJAX_ORIGINALS=... genjax compare --config=experiments/augmentation/compare.py:full

Sizes: `full`, without augmentation and with ADA; `none`, `ada`, `diff`, one of them; `smoke`, a few steps.
python -m experiments.augmentation runs/compare-augmentation-full    # the curves of r_t and p as a picture
"""

from ml_collections import ConfigDict

KINDS = {
    "none": ("none", "model.augment={'kind': 'none'}"),
    "ada": ("adaptive", ""),
    "diff": ("DiffAugment", "model.augment={'kind': 'diff'}"),
}
"""{entry: (name, override of emoji/stylegan2)}."""
STEPS = 24_000


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
    chosen = {"full": ("none", "ada"), "smoke": tuple(KINDS)}.get(size, (size,))
    entries = {
        name: {
            "config": "emoji/stylegan2" + (":smoke" if smoke else ""),
            "family": f"StyleGAN2, {family}",
            "overrides": (*([override] if override else []), "train.sample_every=1000", "train.log_every=50"),
        }
        for name, (family, override) in KINDS.items()
        if name in chosen
    }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    config.evaluate = {"samples": 32 if smoke else 1000, "sets": 1 if smoke else 3}
    return config
