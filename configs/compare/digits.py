"""Compare five families on scikit-learn's 1,797 real 8x8 digits, under one budget of training seconds.

    genjax compare --config=compare/digits          (or: make compare)

Writes runs/compare-digits/report.html. Under ten minutes on two CPU cores.
"""

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    smoke = size == "smoke"
    suffix = ":smoke" if smoke else ""
    config = ConfigDict()
    config.name = "digits-smoke" if smoke else "digits"
    config.title = "Five families of generative model on real 8x8 digits"
    config.seed = 0
    config.budget = {"kind": "steps", "value": 8} if smoke else {"kind": "seconds", "value": 60}
    config.features = "classifier:digits/classifier" + suffix
    entries = {
        "ngram": {"config": "digits/ngram" + suffix, "family": "n-gram", "passes": 1},
        "vae": {"config": "digits/vae" + suffix, "family": "VAE"},
        "gan": {"config": "digits/gan" + suffix, "family": "GAN"},
        "gpt": {"config": "digits/gpt" + suffix, "family": "GPT"},
        "diffusion": {"config": "digits/diffusion" + suffix, "family": "Diffusion"},
    }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    if smoke:
        config.evaluate = {"samples": 32, "sets": 2}
    return config
