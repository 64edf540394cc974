"""Configure a comparison of codecs of discrete codes on one data set, for `genjax compare`.

genjax compare --config=experiments/codecs/compare.py:mnist5k    (or emoji, smoke)

The quantisers have about 256 codes each on a grid of 7x7 or 8x8 positions, with the same encoder and decoder;
residual VQ has four codes per position. `vqgan` is `vq` with a patch discriminator and a perceptual
distance. That distance is measured by a classifier of another seed than the one in whose features
reconstructions are scored.
"""

from typing import Any

from ml_collections import ConfigDict

STEPS = 500
VECTOR = {"codes": 256, "features": 16, "decay": 0.9}
QUANTISERS: dict[str, tuple[str, dict[str, Any]]] = {
    "vq": ("VQ, averages and revival", {**VECTOR, "revive": 1.0}),
    "plain": ("VQ without revival and k-means", {**VECTOR, "revive": 0.0, "rounds": 0}),
    "residual": ("Residual VQ, depth 4", {**VECTOR, "revive": 1.0, "depth": 4}),
    "fsq": ("FSQ", {"quantiser": "scalar", "levels": (8, 6, 5)}),
    "lfq": ("LFQ", {"quantiser": "signs", "codes": 256}),
    "dvae": ("dVAE", {"quantiser": "gumbel", "codes": 256, "features": 16, "anneal": STEPS}),
}
"""{entry: (family, fields of the model)}."""
DISCRIMINATOR = "{'discriminator': {'name': 'adam', 'learning_rate': 5e-4, 'b1': 0.5}}"


def get_config(size: str = "mnist5k") -> ConfigDict:
    """Return the comparison of this size."""
    config = ConfigDict()
    smoke = size == "smoke"
    data = "emoji" if size == "emoji" else "mnist5k"
    path = f"{data}/vqvae" + (":smoke" if smoke else "")
    config.name = f"codecs-{size}"
    config.seed = 0
    config.title = f"Codecs of {data}"
    config.budget = {"kind": "steps", "value": 8 if smoke else STEPS}
    config.features = "pixels" if smoke else f"classifier:{data}/classifier"
    smallest = 0.02 if data == "emoji" else 0.1
    entries = {}
    for name, (family, fields) in QUANTISERS.items():
        model = {"name": "vqvae", "smallest": smallest, **fields}
        entries[name] = {"config": path, "family": family, "overrides": (f"model={model}",)}
    vq = entries["vq"]["overrides"]
    adversary: dict[str, Any] = {"weight": 0.5, "start": STEPS // 4}
    sharp = (*vq, f"optimizers={DISCRIMINATOR}")
    if not smoke:
        adversary["perceptual"] = 0.5
        stage = {"features": {"config": f"{data}/classifier", "overrides": ["seed=1"]}}
        sharp = (*sharp, f"stages={stage}")
    sharp = (*sharp, f"model.adversary={adversary}")
    entries["vqgan"] = {"config": path, "family": "VQ-GAN", "overrides": sharp}
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    if smoke:
        config.evaluate = {"samples": 32, "sets": 2}
    return config
