"""RealNVP on the 8x8 digits."""

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    config = ConfigDict()
    config.name = "realnvp"
    config.data = {"name": "digits", "batch": 64}
    config.model = {"name": "outside.realnvp"}
    config.optimizer = {"name": "adam", "learning_rate": 1e-3}
    config.train = {"steps": 1000, "averages": {"eval": {"half_life": 4000.0}}}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"couplings": 2, "width": 16})
        config.train.steps = 8
    return config
