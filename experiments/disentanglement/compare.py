"""Configure a comparison of the plain VAE with the beta-TCVAE on known factors, for `genjax compare`.

genjax compare --config=experiments/disentanglement/compare.py    (or :smoke)

Three trainings of each model, on white shapes with the factors of dSprites.
"""

from ml_collections import ConfigDict

METRICS = ("mig", "dci", "sap", "factor_vote", "likelihood", "rate_distortion", "active_units")


def get_config(size: str = "full") -> ConfigDict:
    """Return the comparison of this size."""
    config = ConfigDict()
    smoke = size == "smoke"
    path = "sprites/vae" + (":smoke" if smoke else "")
    config.name = f"disentanglement-{size}"
    config.seed = 0
    config.seeds = 3
    config.title = "Disentanglement of the factors of dSprites"
    config.budget = {"kind": "steps", "value": 8 if smoke else 6000}
    config.features = "pixels"
    entries = {
        "vae": {"config": path, "family": "VAE", "overrides": ("model.regulariser={'kind': 'kl'}",)},
        "tcvae": {"config": path, "family": "beta-TCVAE, beta = 6"},
    }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    config.evaluate = {"samples": 64 if smoke else 5000, "metrics": METRICS}
    return config
