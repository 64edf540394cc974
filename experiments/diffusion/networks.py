"""Configure U-Net against transformer for diffusion on 28x28 digits, for `genjax compare`.

genjax compare --config=experiments/diffusion/networks.py:flops     (or seconds, smoke)

Flow matching in all entries. `flops`: as many FLOPs of training as the jaxpr counts; `seconds`: equal time.
"""

from ml_collections import ConfigDict

SECONDS = 300
FLOPS = 2e13
ADAM = "optimizer={'name': 'adam', 'learning_rate': 2e-3, 'schedule': 'cosine', 'warmup': 0.1, 'end': 0.01}"
UNET = (
    "model.network=unet",
    "model.width=32",
    "model.multipliers=(1, 2, 2)",
    "model.blocks=1",
    "model.patch=2",
)
FORMS = {
    "unet": ("U-Net, Adam", (*UNET, ADAM)),
    "transformer_adam": ("Transformer, Adam", (ADAM,)),
    "transformer": ("Transformer, Muon", ()),
}
"""{entry: (family, overrides of mnist5k/diffusion)}."""


def get_config(size: str = "flops") -> ConfigDict:
    """Return the comparison of this size."""
    smoke = size == "smoke"
    suffix = ":smoke" if smoke else ""
    config = ConfigDict()
    config.name = f"networks-{size}"
    config.title = "U-Net and transformer as the network of a diffusion"
    config.seed = 0
    budgets = {
        "flops": {"kind": "flops", "value": FLOPS},
        "seconds": {"kind": "seconds", "value": SECONDS},
        "smoke": {"kind": "steps", "value": 8},
    }
    config.budget = budgets[size]
    config.features = "classifier:mnist5k/classifier" + suffix
    entries = {
        name: {"config": "mnist5k/diffusion" + suffix, "family": family, "overrides": changes}
        for name, (family, changes) in FORMS.items()
    }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    if smoke:
        config.evaluate = {"samples": 32, "sets": 1}
    return config
