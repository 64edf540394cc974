"""Four-step diffusion of the 8x8 digits, distilled from digits/diffusion with its guidance.

genjax train --config=digits/distilled

Trains the teacher first (runs/stages/digits-teacher-...). One step of the student is two of the teacher's
eight; for fewer steps, name the finished run as the next teacher.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny networks."""
    config = ConfigDict()
    config.name = "digits-distilled"
    config.data = {"name": "digits", "batch": 64}
    smoke = size == "smoke"
    teacher = "digits/diffusion" + (":smoke" if smoke else "")
    config.stages = {"teacher": {"config": teacher, "overrides": ("name=digits-teacher",)}}
    student = {
        "name": "diffusion",
        "network": "transformer",
        "width": 96,
        "blocks": 3,
        "head": 24,
        "schedule": "straight",
        "prediction": "flow_velocity",
        "variance": "large",
    }
    config.model = {
        "name": "distillation",
        "student": student,
        "kind": "progressive",
        "steps": 4,
        "guidance": 1.5,
    }
    config.optimizer = {
        "name": "adam",
        "learning_rate": 3e-4,
        "schedule": "cosine",
        "warmup": 0.05,
        "end": 0.02,
    }
    config.train = {"steps": 2000, "averages": {"eval": {"half_life": 8000.0}}}
    config.sample = {"sampler": "ddim", "steps": 4}
    if smoke:
        config.data.batch = 8
        config.model.student.update({"width": 16, "blocks": 1, "head": 8, "timesteps": 50})
        config.model.steps = 2
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "checkpoint_every": 4})
        config.sample.steps = 2
    return config
