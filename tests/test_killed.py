"""Two families by the command line: N steps equal k steps, SIGKILL and the rest, bit for bit.

The conformance suite does the same for every family inside one process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from compiling import QUICK
from properties import assert_equal_runs, killed_and_resumed, leaves, saved_steps
from test_conformance import every, path_of, prepared

# 30 rows in batches of 8: epochs end inside batches. Samples take the time in which the kill comes.
SCHEDULE = {
    "data.batch": 8,
    "data.limit": 30,
    "data.order": "shuffled",
    "train.steps": 40,
    "train.log_every": 1,
    "train.eval_every": 16,
    "train.sample_every": 4,
    "train.checkpoint_every": 7,
    "train.tensorboard": False,
}


FAMILIES = ["digits/gan", "tests/outside/configs/vqvae_prior.py"]
"""Two players with a lazy regulariser; and a prior over fitted codes from outside the package."""


@every(FAMILIES)
def test_a_killed_family_resumes_to_the_same_bits(name: str, tmp_path: Path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    accumulate = 2 if all(phase.rowwise for phase in prepared(name).model.phases.values()) else 1
    settings = {**SCHEDULE, "train.accumulate": accumulate}
    train = [sys.executable, "-m", "genjax.cli", "train", f"--config={path_of(name)}:smoke"]
    train += [f"--config.{key}={value}" for key, value in settings.items()]
    # One device, and programs compiled once for the three processes.
    env = {
        "XLA_FLAGS": QUICK,
        "PYTHONPATH": str(Path(__file__).parent),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla"),
    }
    reached = killed_and_resumed([*train, f"--dir={broken}"], broken, at=12, env=env)
    assert 12 <= reached < SCHEDULE["train.steps"], "the kill came too late to prove anything"
    subprocess.run([*train, f"--dir={whole}"], env={**os.environ, **env}, check=True, capture_output=True)
    assert saved_steps(whole)[-1] == SCHEDULE["train.steps"]
    assert leaves(whole)
    assert_equal_runs(whole, broken)
