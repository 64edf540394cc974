"""Compare seven families on 5,000 real 28x28 handwritten digits, 300 seconds of training each.

    genjax compare --config=compare/mnist5k

Writes runs/compare-mnist5k/report.html. The seconds of a prior include those of its codec.
"""

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    smoke = size == "smoke"
    suffix = ":smoke" if smoke else ""
    config = ConfigDict()
    config.name = "mnist5k-smoke" if smoke else "mnist5k"
    config.title = "Seven families of generative model on real 28x28 digits"
    config.seed = 0
    config.budget = {"kind": "steps", "value": 8} if smoke else {"kind": "seconds", "value": 300}
    config.features = "classifier:mnist5k/classifier" + suffix
    entries = {
        "ngram": {"config": "mnist5k/ngram" + suffix, "family": "n-gram", "passes": 1},
        "vae": {"config": "mnist5k/vae" + suffix, "family": "VAE"},
        "gan": {"config": "mnist5k/gan" + suffix, "family": "GAN"},
        "gpt": {"config": "mnist5k/gpt" + suffix, "family": "GPT"},
        "vq": {"config": "mnist5k/vq_prior" + suffix, "family": "VQ-VAE and GPT"},
        "flow": {"config": "mnist5k/flow" + suffix, "family": "RealNVP"},
        "diffusion": {"config": "mnist5k/diffusion" + suffix, "family": "Diffusion"},
    }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    if smoke:
        config.evaluate = {"samples": 32, "sets": 2}
    return config
