"""Configure a comparison of adversarial networks on 28x28 digits at equal seconds, for `genjax compare`.

genjax compare --config=experiments/adversarial/compare.py:full    (or one, smoke)

Sizes: `full`, three trainings of each entry; `one`, a short one of each; `smoke`, a few steps.
"""

from ml_collections import ConfigDict

NETWORKS = {
    "dcgan": "'width': 16",
    "resnet": "'width': 16, 'widest': 64",
    "biggan": "'width': 16, 'widest': 64, 'skip': True, 'shared': 32, 'attention': (14,)",
    "stylegan2": "'width': 16, 'widest': 64, 'style': 64",
    "r3gan": "'width': 16, 'widest': 64, 'blocks': 1",
}
FILES = {"biggan": "resnet"}
ENTRIES = {
    "dcgan": ("DCGAN, R1", "dcgan", ()),
    "wgan_gp": (
        "WGAN-GP",
        "dcgan",
        (
            "model.loss=wasserstein",
            "model.r1=0.0",
            "model.gradient_penalty=10.0",
            "model.critic_steps=2",
            "optimizers.discriminator.learning_rate=2e-3",
            "optimizer.b2=0.9",
        ),
    ),
    "sngan": (
        "SNGAN, hinge",
        "resnet",
        (
            "model.loss=hinge",
            "model.r1=0.0",
            "model.spectral=('discriminator',)",
        ),
    ),
    "biggan": (
        "BigGAN",
        "biggan",
        (
            "model.loss=hinge",
            "model.r1=0.0",
            "model.spectral=('generator', 'discriminator')",
            "model.orthogonal=1e-4",
        ),
    ),
    "stylegan2": (
        "StyleGAN2",
        "stylegan2",
        ("model.interval=16", "optimizer.b2=0.99", "optimizers.discriminator.learning_rate=2e-3"),
    ),
    "r3gan": (
        "R3GAN",
        "r3gan",
        ("model.loss=relativistic", "model.r1=1.0", "model.r2=1.0", "optimizer.learning_rate=1e-3"),
    ),
}
"""{entry: (name, networks, overrides of mnist5k/gan)}."""
OTHERS = {"vae": ("mnist5k/vae", "VAE"), "diffusion": ("mnist5k/diffusion", "Diffusion")}


def get_config(size: str = "full") -> ConfigDict:
    """Return the comparison of this size."""
    config = ConfigDict()
    smoke = size == "smoke"
    config.name = f"adversarial-{size}"
    config.seed = 0
    config.seeds = 3 if size == "full" else 1
    config.title = "Adversarial networks on real 28x28 digits"
    seconds = 60 if size == "one" else 200
    config.budget = {"kind": "steps", "value": 8} if smoke else {"kind": "seconds", "value": seconds}
    suffix = ":smoke" if smoke else ""
    config.features = "classifier:mnist5k/classifier" + suffix
    entries = {}
    for name, (family, network, changes) in ENTRIES.items():
        fields = NETWORKS[network]
        file = FILES.get(network, network)
        entries[name] = {
            "config": "mnist5k/gan" + suffix,
            "family": family,
            "overrides": (f"model.network={{'name': '{file}', {fields}}}", *changes),
        }
    for name, (path, family) in OTHERS.items():
        entries[name] = {"config": path + suffix, "family": family}
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    if smoke:
        config.evaluate = {"samples": 32, "sets": 1}
    return config
