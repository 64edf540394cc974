"""The config of docs/extending.md."""

from ml_collections import ConfigDict


def get_config(size="full"):
    config = ConfigDict()
    config.name = "tones-gaussian"
    config.data = {"name": "outside.tones", "batch": 32}
    config.model = {"name": "outside.gaussian"}
    config.optimizer = {"name": "adam", "learning_rate": 1e-2}
    config.train = {"steps": 20 if size == "smoke" else 500}
    config.evaluate = {"metrics": ("outside.loudness", "likelihood", "frechet"), "samples": 64}
    return config
