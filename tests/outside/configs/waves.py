"""Diffusion of signals: the data, its kind, a metric and the features all come from outside the package."""

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    config = ConfigDict()
    config.name = "waves"
    config.data = {"name": "outside.waves", "batch": 64}
    config.model = {"name": "diffusion", "width": 64}
    config.optimizer = {"name": "adam", "learning_rate": 1e-3}
    config.train = {"steps": 1000, "averages": {"eval": {"half_life": 4000.0}}}
    config.sample = {"steps": 20}
    config.evaluate = {
        "metrics": ("frechet", "likelihood", "cost", "outside.roughness"),
        "features": "outside.spectrum",
        "samples": 50,
        "sets": 2,
    }
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 16, "timesteps": 50})
        config.train.steps = 8
        config.sample.steps = 4
    return config
