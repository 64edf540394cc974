"""Budgets of a model with stages: what the codec took to train is charged too."""

from __future__ import annotations

import jax
import pytest

from genjax import settings
from genjax.errors import ConfigError
from genjax.workflows import budget, train
from genjax.workflows.assemble import Experiment

QUIET = ("train.progress=False", "train.tensorboard=False", "train.compilation_cache=False")


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A diffusion prior on a VAE that its config trains first."""
    resolved = settings.complete(settings.load("digits/latent:smoke", (*QUIET, "data.limit=100")))
    return train.prepare(resolved, tmp_path_factory.mktemp("staged") / "run", devices=jax.devices()[:1])


def of_codec(staged: Experiment) -> float:
    """Count the FLOPs of the codec's training: those of its own step, times its steps."""
    codec = staged.stages["codec"].trained
    return budget.flops_per_step(codec.experiment) * codec.step


def test_a_budget_of_flops_counts_all_stages(staged: Experiment):
    spent = of_codec(staged)
    assert spent > 0
    a_step = budget.flops_per_step(staged)
    found, note = budget.limits(budget.Budget("flops", spent + 7.5 * a_step), staged)
    assert found == {"steps": 7}
    assert note["stages"] == pytest.approx(spent, rel=1e-5)


def test_stages_beyond_the_budget_are_refused(staged: Experiment):
    with pytest.raises(ConfigError, match=r"the stages of digits-latent took .* flops"):
        budget.limits(budget.Budget("flops", 0.5 * of_codec(staged)), staged)


def test_a_budget_of_steps_is_of_the_last_stage_alone(staged: Experiment):
    assert budget.limits(budget.Budget("steps", 5), staged)[0] == {"steps": 5}


def test_a_budget_of_seconds_leaves_what_the_stages_have_not_spent(staged: Experiment):
    spent = staged.stages["codec"].trained.record["seconds"]
    found, note = budget.limits(budget.Budget("seconds", spent + 3.0), staged)
    assert found["seconds"] == pytest.approx(3.0)
    assert note["stage_seconds"] == pytest.approx(spent)
