"""Compare models with latent variables on 5,000 real 28x28 digits, 300 seconds of training each.

    genjax compare --config=compare/latents

Writes runs/compare-latents/report.html. The seconds of a prior include those of its codec.
"""

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    smoke = size == "smoke"
    suffix = ":smoke" if smoke else ""
    config = ConfigDict()
    config.name = "latents-smoke" if smoke else "latents"
    config.title = "Latent variables on real 28x28 digits"
    config.seed = 0
    config.budget = {"kind": "steps", "value": 8} if smoke else {"kind": "seconds", "value": 300}
    config.features = "classifier:mnist5k/classifier" + suffix
    scalar = "{'name': 'vqvae', 'quantiser': 'scalar', 'smallest': 0.1}"
    codec = f"stages.codec={{'config': 'mnist5k/vqvae{suffix}', 'overrides': [\"model={scalar}\"]}}"
    prior = "mnist5k/vq_prior" + suffix
    entries = {
        "vae": {"config": "mnist5k/vae" + suffix, "family": "VAE"},
        "hvae": {"config": "mnist5k/hvae" + suffix, "family": "Hierarchical VAE"},
        "vq": {"config": prior, "family": "VQ-VAE and GPT"},
        "fsq": {"config": prior, "family": "FSQ and GPT", "overrides": (codec,)},
        "flow": {"config": "mnist5k/flow" + suffix, "family": "RealNVP"},
        "diffusion": {"config": "mnist5k/diffusion" + suffix, "family": "Diffusion"},
    }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    if smoke:
        config.evaluate = {"samples": 32, "sets": 2}
    return config
