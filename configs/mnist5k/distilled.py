"""Diffusion of 28x28 digits in four steps, two or one, distilled from mnist5k/diffusion with its guidance.

    genjax train --config=mnist5k/distilled          (or mnist5k/distilled:two, mnist5k/distilled:one)

Trains the teachers first (runs/stages/...): the diffusion, and for fewer than four steps the students before.
"""

from __future__ import annotations

from ml_collections import ConfigDict

FORMS = {
    "full": ("mnist5k/diffusion", 4),
    "two": ("mnist5k/distilled", 2),
    "one": ("mnist5k/distilled:two", 1),
}
"""{size: (config of the teacher, steps of the student)}."""


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny networks."""
    smoke = size == "smoke"
    teacher, steps = ("mnist5k/diffusion:smoke", 2) if smoke else FORMS[size]
    config = ConfigDict()
    config.name = "mnist5k-distilled" if size == "full" else f"mnist5k-distilled-{size}"
    config.data = {"name": "mnist5k", "batch": 64}
    config.stages = {"teacher": {"config": teacher}}
    student = {
        "name": "diffusion",
        "network": "transformer",
        "width": 128,
        "blocks": 4,
        "head": 32,
        "patch": 4,
        "schedule": "straight",
        "prediction": "flow_velocity",
        "variance": "large",
    }
    config.model = {"name": "distillation", "student": student, "kind": "progressive", "steps": steps}
    if size in ("full", "smoke"):  # later students learn it from the first
        config.model.guidance = 1.5
    config.optimizer = {
        "name": "adam",
        "learning_rate": 3e-4,
        "schedule": "cosine",
        "warmup": 0.05,
        "end": 0.02,
    }
    config.train = {"steps": 1000, "averages": {"eval": {"half_life": 8000.0}}, "checkpoint_every": 250}
    config.sample = {"sampler": "ddim", "steps": steps}
    if smoke:
        config.data.batch = 8
        config.model.student.update({"width": 16, "blocks": 1, "head": 8, "timesteps": 50})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "checkpoint_every": 4})
    return config
