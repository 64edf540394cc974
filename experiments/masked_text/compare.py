"""Configure masked diffusion beside GPT on one text at equal tokens, for `genjax compare`.

genjax compare --config=experiments/masked_text/compare.py:full     (or smoke)
python -m experiments.masked_text runs/compare-masked-text-full     # fills gaps with both

One width, number of layers and optimizer. The 5-gram judges what is written into the gaps.
"""

from ml_collections import ConfigDict

ROWS = 96_000
"""3,000 steps of 32 rows of 128 characters: 12 passes over the text."""
SHARED = ("data.length=128", "data.batch=32", "train.eval_every=500")
MUON = {
    "name": "muon",
    "learning_rate": 5e-3,
    "b2": 0.98,
    "weight_decay": 0.1,
    "schedule": "cosine",
    "warmup": 0.05,
    "end": 0.05,
    "clip": 1.0,
}
"""The optimizer of shakespeare/masked."""
FAMILIES = {
    "gpt": ("GPT", "shakespeare/gpt", (*SHARED, f"optimizer={MUON}"), None),
    "masked": ("masked diffusion", "shakespeare/masked", SHARED, None),
    "ngram": ("5-gram", "shakespeare/ngram", ("data.length=128", "model.order=5"), 1),
}
"""{entry: (name, config, overrides, passes)}."""


def get_config(size: str = "full") -> ConfigDict:
    """Return the comparison of this size."""
    smoke = size == "smoke"
    config = ConfigDict()
    config.name = f"masked-text-{size}"
    config.seed = 0
    config.title = "Masked diffusion and GPT on the characters of one text"
    config.budget = {"kind": "steps", "value": 8} if smoke else {"kind": "examples", "value": ROWS}
    suffix = ":smoke" if smoke else ""
    entries = {
        name: {
            "config": path + suffix,
            "family": family,
            "overrides": ("data.length=16", "data.limit=200") if smoke else overrides,
            "passes": passes,
        }
        for name, (family, path, overrides, passes) in FAMILIES.items()
    }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    if smoke:
        config.evaluate = {"batch": 8}
    return config
