"""Configure comparisons of GANs on mixtures of Gaussians, the standard test of mode collapse.

genjax compare --config=experiments/mode_collapse/compare.py:grid    (or ring, matrix, smoke)
python -m experiments.mode_collapse runs/compare-mode-collapse-matrix    # the matrix as a picture

Sizes: `ring` and `grid`, the plain loss and its cures, ten trainings each; `matrix`, every loss with every
penalty on the grid; `stacked`, losses and penalties on stacked MNIST, which has 1,000 modes; `smoke`, a few
steps of a small matrix.
"""

from ml_collections import ConfigDict

LOSSES = ("non_saturating", "saturating", "least_squares", "hinge", "wasserstein", "relativistic")
PENALTIES = {
    "none": (),
    "r1": ("model.r1=0.03",),
    "r1+r2": ("model.r1=0.03", "model.r2=0.03"),
    "gp": ("model.gradient_penalty=0.1",),
    "spectral": ("model.spectral=('discriminator',)",),
    "pack": ("model.pack=4",),
}
"""{name: overrides of ring/gan or grid/gan}."""
CURES = {
    "plain": ("non_saturating", "none"),
    "pack": ("non_saturating", "pack"),
    "r1": ("non_saturating", "r1"),
    "r1+r2": ("non_saturating", "r1+r2"),
    "r3": ("relativistic", "r1+r2"),
}
"""{entry: (loss, penalty)}."""
STEPS = {"ring": 8_000, "grid": 24_000}
STACKED = {
    "plain": ("non_saturating", ()),
    "r1": ("non_saturating", ("model.r1=1.0",)),
    "r1_r2": ("non_saturating", ("model.r1=1.0", "model.r2=1.0")),
    "rp_r1": ("relativistic", ("model.r1=1.0",)),
    "r3": ("relativistic", ("model.r1=1.0", "model.r2=1.0")),
}
"""{entry: (loss, overrides of stacked_mnist/gan)}."""


def stacked() -> ConfigDict:
    """Return the comparison on stacked MNIST (Lin et al. 2018, sec. 4.2: modes of 26,000 samples)."""
    config = ConfigDict()
    config.name = "mode-collapse-stacked"
    config.seed = 0
    config.title = "Mode collapse on stacked MNIST"
    config.budget = {"kind": "steps", "value": 5000}
    config.features = "channels:mnist/classifier"
    config.floor = False  # the held-out split has 10,000 rows
    entries = {
        name: {
            "config": "stacked_mnist/gan",
            "family": f"{loss.replace('_', ' ')}, {name.replace('_', '+')}",
            "overrides": (f"model.loss={loss}", *changes),
        }
        for name, (loss, changes) in STACKED.items()
    }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    config.evaluate = {"samples": 26_000, "sets": 1, "metrics": ("accuracy", "frechet")}
    return config


def get_config(size: str = "grid") -> ConfigDict:
    """Return the comparison of this size."""
    if size == "stacked":
        return stacked()
    config = ConfigDict()
    smoke = size == "smoke"
    data = {"ring": "ring", "grid": "grid", "matrix": "grid", "smoke": "grid"}[size]
    if size in ("ring", "grid"):
        pairs = CURES
    else:
        losses = LOSSES[:1] + LOSSES[-1:] if smoke else LOSSES
        pairs = {f"{loss}_{name}": (loss, name) for loss in losses for name in PENALTIES}
    config.name = f"mode-collapse-{size}"
    config.seed = 0
    config.seeds = 10 if size in ("ring", "grid") else 1
    config.title = f"Mode collapse on the {data}"
    config.budget = {"kind": "steps", "value": 8 if smoke else STEPS[data]}
    config.features = "pixels"
    path = f"{data}/gan" + (":smoke" if smoke else "")
    entries = {}
    for name, (loss, penalty) in pairs.items():
        overrides = (f"model.loss={loss}", *PENALTIES[penalty], "train.diagnose=2500")
        entries[name.replace("+", "_")] = {
            "config": path,
            "family": f"{loss.replace('_', ' ')}, {penalty}",
            "overrides": overrides,
        }
    config.entries = ConfigDict(entries, sort_keys=False)  # keeps the order of the report
    config.evaluate = {"samples": 64 if smoke else 2500, "sets": 1, "metrics": ("modes",)}
    return config
