"""Configure comparisons of GANs on mixtures of Gaussians, the standard test of mode collapse.

genjax compare --config=experiments/mode_collapse/compare.py:grid    (or ring, matrix, smoke)
python -m experiments.mode_collapse runs/compare-mode-collapse-matrix    # the matrix as a picture

Sizes: `ring` and `grid`, the plain loss and its cures, ten trainings each; `matrix`, every loss with every
penalty on the grid; `smoke`, a few steps of a small matrix.
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


def get_config(size: str = "grid") -> ConfigDict:
    """Return the comparison of this size."""
    config = ConfigDict()
    smoke = size == "smoke"
    data = "ring" if size == "ring" else "grid"
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
