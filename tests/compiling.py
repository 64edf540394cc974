"""Flags of XLA for tests, which compile far more than they run. This module must not import jax."""

from __future__ import annotations

from importlib.metadata import version

# One part per program: more parts are compiled by threads, which other workers need.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if tuple(int(n) for n in version("jaxlib").split(".")[:2]) < (0, 12):
    # The emitters of fusions take half of the time of a compilation at level 0; 0.12 has no others.
    QUICK += " --xla_cpu_use_fusion_emitters=false"
