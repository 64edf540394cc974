"""Flow matching on the 8x8 digits; the network is written in Flax NNX."""

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    config = ConfigDict()
    config.name = "digits-nnx"
    config.data = {"name": "digits", "batch": 128}
    config.model = {"name": "outside.nnx_flow"}
    config.optimizer = {"name": "adam", "learning_rate": 1e-3, "schedule": "cosine", "warmup": 0.02}
    config.train = {"steps": 3000, "averages": {"eval": {"half_life": 20_000.0}}}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 16, "blocks": 2})
        config.train.steps = 8
    return config
