"""Configure a comparison of bounds and priors on binarised MNIST, for `genjax compare`.

GENJAX_ORIGINALS=... genjax compare --config=experiments/iwae/compare.py:bounds     (or priors, smoke)

Sizes: `bounds`, the importance-weighted bound of 1, 5 and 50 draws; `priors`, a VampPrior, two stochastic
layers and top-down inference beside the plain model; `smoke`, a few steps. All train for the same epochs.
"""

from ml_collections import ConfigDict

PLAIN = ("mnist/vae", "VAE", ())
BOUNDS = {
    "k1": PLAIN,
    "k5": ("mnist/vae", "IWAE, k = 5", ("model.bound={'kind': 'iwae', 'samples': 5}",)),
    "k50": ("mnist/vae", "IWAE, k = 50", ("model.bound={'kind': 'iwae', 'samples': 50}",)),
}
TWO = ("model.inference=bottom_up", "model.free_bits=0.0")
PRIORS = {
    "plain": PLAIN,
    "vamp": ("mnist/vae", "VampPrior", ("model.prior={'kind': 'vamp', 'components': 500}",)),
    "two": ("mnist/hvae", "two layers, bottom up", TWO),
    "ladder": ("mnist/hvae", "two layers, top down", ()),
}
EPOCHS = 10
STEPS_PER_EPOCH = 3000


def get_config(size: str = "bounds") -> ConfigDict:
    """Return the comparison of this size."""
    config = ConfigDict()
    smoke = size == "smoke"
    config.name = f"iwae-{size}"
    config.seed = 0
    config.title = "Bounds and priors on binarised MNIST"
    config.budget = {"kind": "steps", "value": 8 if smoke else EPOCHS * STEPS_PER_EPOCH}
    entries = {}
    for name, (path, family, changes) in (PRIORS if size == "priors" else BOUNDS).items():
        entries[name] = {
            "config": path + (":smoke" if smoke else ""),
            "family": family,
            "overrides": (*changes, "train.eval_every=0"),
        }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    config.evaluate = {"metrics": ("likelihood",), "importance_samples": 8 if smoke else 5000}
    return config
