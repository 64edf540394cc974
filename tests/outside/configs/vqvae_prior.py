"""GPT over the codes of the VQ-VAE: one command trains both."""

from pathlib import Path

from ml_collections import ConfigDict

CODEC = str(Path(__file__).with_name("vqvae.py"))


def get_config(size: str = "full") -> ConfigDict:
    config = ConfigDict()
    config.name = "vqvae-prior"
    config.data = {"name": "digits", "batch": 64}
    config.stages = {"codec": {"config": f"{CODEC}:{size}"}}
    config.model = {"name": "latent", "prior": {"name": "gpt", "layers": 2, "heads": 4, "width": 64}}
    config.optimizer = {"name": "adamw", "learning_rate": 2e-3}
    config.train = {"steps": 1000, "averages": {"eval": {"half_life": 4000.0}}}
    if size == "smoke":
        config.data.batch = 8
        config.model.prior.update({"layers": 1, "heads": 2, "width": 16})
        config.train.steps = 8
    return config
