"""CycleGAN between two domains of digits, unpaired."""

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    config = ConfigDict()
    config.name = "translator"
    config.data = {"name": "zip:digits,digits", "batch": 64}
    config.model = {"name": "outside.translator"}
    config.optimizer = {"name": "adam", "learning_rate": 1e-3, "b1": 0.5}
    config.train = {"steps": 1000, "averages": {"eval": {"players": ("generators",), "half_life": 4000.0}}}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 16, "buffer": 8})
        config.train.steps = 8
    return config
