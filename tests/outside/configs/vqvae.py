"""VQ-VAE on the 8x8 digits."""

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    config = ConfigDict()
    config.name = "vqvae"
    config.data = {"name": "digits", "batch": 64}
    config.model = {"name": "outside.vqvae"}
    config.optimizer = {"name": "adam", "learning_rate": 2e-3}
    config.train = {"steps": 1000}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"codes": 8, "hidden": 16, "rounds": 2})
        config.train.steps = 8
    return config
