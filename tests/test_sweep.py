"""A sweep: values are checked first, runs are kept or resumed, the table and the plot show all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import ClassVar

import pytest

from genjax import cli, settings
from genjax.errors import ConfigError, DataError, GenjaxError, NonFiniteError
from genjax.evaluation import Score
from genjax.report import sweep as report
from genjax.workflows import train
from genjax.workflows.sweep import check, grid, jobs, plan, point, results, run
from genjax.workflows.sweep.plan import Plan, Point

CONFIG = "digits/vae:smoke"
RATES = "optimizer.learning_rate=1e-3,3e-3,1e-2"


def planned(*lists: str, **options) -> Plan:
    overrides = options.pop("overrides", ())
    return plan.make(CONFIG, settings.load(CONFIG, overrides), lists=lists, **options)


def silent(text: str) -> None:
    del text


# --- values --------------------------------------------------------------------------------------------


def test_lists_are_read_as_overrides_are():
    found = grid.lists(["a.b=1e-3, 2,true", "c=(1,2),(3,4)", "d='x,y',z"])
    assert found == {"a.b": [1e-3, 2, True], "c": [(1, 2), (3, 4)], "d": ["x,y", "z"]}


def test_the_grid_is_the_product_and_draws_are_combined_with_it():
    points = grid.combine({"a": [1, 2]}, {"b": grid.Range("uniform", 0, 1)}, 3, {})
    assert [p["a"] for p in points] == [1, 1, 1, 2, 2, 2]
    assert points[0]["b"] == points[3]["b"]


def test_draws_stay_in_their_range_and_do_not_depend_on_how_many_there_are():
    rate = grid.ranges(["x=log:1e-4,1e-2"])["x"]
    found = [rate.draw("x", i, False) for i in range(400)]
    assert all(1e-4 <= v <= 1e-2 for v in found)
    assert 150 < sum(v < 1e-3 for v in found) < 250, "uniform in the logarithm"
    few = grid.combine({}, {"x": rate}, 3, {})
    assert grid.combine({}, {"x": rate}, 5, {})[:3] == few
    width = grid.ranges(["w=uniform:2,4"])["w"]
    assert {width.draw("w", i, True) for i in range(50)} == {2, 3, 4}


def test_whole_numbers_are_drawn_for_fields_that_hold_them():
    drawn = planned(ranges=["model.width=uniform:4,64", "optimizer.learning_rate=log:1,3"], draws=4)
    assert all(isinstance(s["model.width"], int) for s in drawn.settings)
    assert all(isinstance(s["optimizer.learning_rate"], float) for s in drawn.settings)


def test_seeds_change_the_run_and_the_order_of_its_rows():
    given = planned(RATES, seeds=2, overrides=["seed=5", "data.seed=7"])
    assert len(given.points) == 6
    assert len({p.name for p in given.points}) == 6
    config = given.settings_of(given.points[4])
    assert (config.seed, config.data.seed, config.optimizer.learning_rate) == (6, 8, 3e-3)


def test_directories_of_different_values_differ():
    slugs = [grid.slug({"a.x": v}) for v in ("p/q", "p_q", 0.1234567, 0.12345671, "y" * 200, "y" * 201)]
    assert len({*slugs}) == len(slugs)
    assert all("/" not in s and len(s) < 100 for s in slugs)


REFUSED = [
    (["--grid", "optimizer.learning_rte=1,2"], "did you mean 'learning_rate'"),
    (["--grid", "optimizer.learning_rate=1e-3,-1"], "learning_rate=-1: optimizer.learning_rate: -1"),
    (["--grid", "optimizer.learning_rate=1e-3,0.001"], "has the value 0.001 twice"),
    (["--grid", "optimizer.learning_rate=1e-3,,1"], "has an empty value"),
    (["--grid", "optimizer.learning_rate"], "not of the form FIELD=VALUES"),
    (["--grid", "optimizer.learning_rate=log:1,2"], "--range optimizer.learning_rate=log:1,2 --random=N"),
    (["--grid", RATES, "--grid", RATES], "names 'optimizer.learning_rate' twice"),
    (["--grid", "seed=1,2"], "give --seeds=N"),
    (["--grid", "evaluate.sets=1,2"], "cannot be swept"),
    (["--grid", "model.name=vae,gan"], "genjax compare"),
    (["--grid", "data.limit=100,200"], "read different data"),
    (["--grid", "train.keep_best.x=1"], "expected str"),
    (["--grid", "optimizer.warmup=2,99", "--grid", "optimizer.schedule=cosine"], "warmup=99"),
    (["--grid", "train.averages.eval.players=('vae',),('nobody',)"], "no player 'nobody'"),
    (["--grid", "sample.temprature=1,2"], "did you mean 'temperature'"),
    (["--range", "optimizer.learning_rate=log:0,1", "--random=2"], "0 < LOW < HIGH"),
    (["--range", "optimizer.learning_rate=uniform:1,nan", "--random=2"], "expected float"),
    (["--range", "optimizer.learning_rate=log:1,2"], "needs --random=N"),
    (["--random=2", "--grid", RATES], "draws from ranges, and none is given"),
    ([], "nothing to vary"),
    (["--grid", RATES, "--seeds=0"], "--seeds=0"),
    (["--grid", RATES, "--jobs=0"], "--jobs=0"),
    (["--grid", RATES, "--jobs=2", "--slurm.timeout_min=1"], "leave one of them out"),
    (["--grid", RATES, "--score=frechett"], "did you mean 'frechet'"),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSED)
def test_what_is_wrong_is_named_before_anything_is_trained(arguments, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", f"--config={CONFIG}", *arguments]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert "hint:" in err
    assert not (tmp_path / "runs").exists()


def test_players_that_depend_on_each_other_need_a_score():
    gan = plan.make("digits/gan:smoke", settings.load("digits/gan:smoke"), lists=[RATES])
    with pytest.raises(ConfigError, match="--score=frechet"):
        run.sweep(gan, "unused", say=silent)


# --- runs, with a stand-in for training ----------------------------------------------------------------


class Trainer:
    """Write what a training leaves: a loss that depends on the learning rate and on the seed."""

    def __init__(self, fails: dict[float, BaseException] | None = None):
        self.fails = fails or {}
        self.trained: list[str] = []

    def __call__(self, config, directory, datasets=None):
        rate = config.optimizer.learning_rate
        if rate in self.fails:
            raise self.fails[rate]
        directory.mkdir(parents=True, exist_ok=True)
        loss = 2.0 + 100 * rate + 0.01 * config.seed
        lines = [{"step": 8, "split": "train"}, {"step": 8, "split": "eval", "vae/loss@eval": loss}]
        (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.trained.append(directory.name)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    found = Trainer()
    monkeypatch.setattr(train, "train", found)
    return found


def test_the_table_and_the_plot_show_the_mean_over_seeds(trainer: Trainer, tmp_path: Path):
    said: list[str] = []
    page = run.sweep(planned(RATES, seeds=3), tmp_path, say=said.append).read_text()
    assert len(trainer.trained) == 9
    found = json.loads((tmp_path / "results.json").read_text())["settings"]
    best = found[0]["score"]
    assert best["value"] == pytest.approx(2.11)
    assert best["high"] - best["value"] == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-5)
    assert [r["value"] for r in found[2]["runs"]] == pytest.approx([3.0, 3.01, 3.02])
    assert page.count('class="spot"') == 3 + 3  # in the plot, and in the bars of the table
    assert page.count('class="whisker"') == 3
    assert "lowest mean final evaluation loss is that of learning_rate=0.001" in page
    assert "against" in report.findings(report.read(tmp_path))[0]
    assert any("[9/9]" in line and "min left" in line for line in said)
    assert "learning_rate=0.001" in said[-1].splitlines()[1], "the best stands first"
    assert cli.main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text() == page


def test_values_and_seeds_can_be_added_and_nothing_else(trainer: Trainer, tmp_path: Path):
    run.sweep(planned("optimizer.learning_rate=1e-3,3e-3"), tmp_path, say=silent)
    said: list[str] = []
    run.sweep(planned("optimizer.learning_rate=1e-3,1e-2", seeds=2), tmp_path, say=said.append)
    assert said[0] == "2 of 6 runs are finished and kept"
    assert len(trainer.trained) == 6
    assert len({*trainer.trained}) == 6
    for other in (planned("model.width=4,8"), planned(RATES, overrides=["train.steps=9"])):
        with pytest.raises(ConfigError, match="only values and seeds can be added"):
            run.sweep(other, tmp_path, say=silent)


def test_a_run_that_fails_is_marked_and_tried_again(trainer: Trainer, tmp_path: Path):
    trainer.fails = {3e-3: NonFiniteError("vae/loss is nan"), 1e-2: MemoryError("too large")}
    said: list[str] = []
    with pytest.raises(GenjaxError, match=r"4 of 6 runs failed; .*: vae/loss is nan"):
        run.sweep(planned(RATES, seeds=2), tmp_path, say=said.append)
    assert len(trainer.trained) == 2
    assert "2 failed" in said[-1]
    assert "MemoryError: too large" in (tmp_path / "report.html").read_text()
    assert "too large" in (tmp_path / "learning_rate=0.01,seed=0" / point.ERROR).read_text()
    assert results.collect(tmp_path, plan.read(tmp_path))["settings"][1]["score"] is None
    trainer.fails = {}
    run.sweep(planned(RATES, seeds=2), tmp_path, say=silent)
    assert len(trainer.trained) == 6
    assert "failed" not in report.text(tmp_path)


def test_a_loss_that_is_not_finite_is_a_failure(trainer: Trainer, tmp_path: Path):
    given = plan.with_loss(planned(RATES), "vae/loss@none")
    runner = point.Runner(tmp_path, given)
    assert "loss is None" in runner.run(given.points[0])
    assert not run.finished(tmp_path, given, given.points[0])


def test_a_score_is_measured_later_without_training_again(trainer: Trainer, tmp_path: Path, monkeypatch):
    def evaluate(directory: Path, features, reference):
        found = Score("frechet", float(len(directory.name)), better="lower", label="Fréchet distance")
        (directory / "scores.json").write_text(json.dumps([found.to_json()]))

    monkeypatch.setattr(point, "restore", lambda directory, datasets: directory)
    monkeypatch.setattr(point.scoring, "evaluate", evaluate)
    pixels = ["evaluate.features=pixels"]
    run.sweep(planned(RATES, overrides=pixels), tmp_path, say=silent)
    run.sweep(planned(RATES, score="frechet", overrides=pixels), tmp_path, say=silent)
    assert len(trainer.trained) == 3
    assert "lowest mean Fréchet distance is that of learning_rate=0.01" in report.text(tmp_path)


def test_a_score_that_cannot_be_measured_is_refused(trainer: Trainer, tmp_path: Path):
    given = planned(RATES, score="psnr", overrides=["evaluate.features=pixels"])
    with pytest.raises(ConfigError, match="--score=psnr cannot be measured here: "):
        run.sweep(given, tmp_path, say=silent)
    assert trainer.trained == []


def test_two_seeds_call_no_setting_better(trainer: Trainer, tmp_path: Path):
    page = run.sweep(planned(RATES, seeds=2), tmp_path, say=silent).read_text()
    assert "No setting is called better than another" in page
    assert 'class="whisker"' not in page
    assert "best" not in page[page.index('id="table"') : page.index('id="caveats"')]


def test_texts_are_places_side_by_side_and_drawn_values_are_not_joined(trainer: Trainer, tmp_path: Path):
    names = planned("optimizer.name=adam,sgd", RATES)
    page = run.sweep(names, tmp_path / "names", say=silent).read_text()
    assert page.count('class="tick" text-anchor="middle">adam<') == 1
    assert page.count('class="line c') == 2 + 3
    ranges = ["optimizer.learning_rate=log:1e-4,1e-2", "model.width=uniform:4,32"]
    drawn = run.sweep(planned(ranges=ranges, draws=4), tmp_path / "drawn", say=silent).read_text()
    assert drawn.count('class="spot"') == 2 * 4 + 4
    assert 'class="line c' not in drawn


def test_processes_run_side_by_side_and_one_that_dies_is_a_failure(tmp_path: Path, monkeypatch):
    given = planned(RATES)
    code = "import sys, time; time.sleep(0.1); sys.exit(9 * (sys.argv[1] == '1'))"

    def start(where: Path, which: Point):
        bad = which.values["optimizer.learning_rate"] == 3e-3
        return subprocess.Popen([sys.executable, "-S", "-c", code, str(int(bad))])

    monkeypatch.setattr(jobs, "_start", start)
    ended: dict[str, str] = {}
    jobs.side_by_side(tmp_path, given.points, 2, lambda p, error: ended.update({p.name: error}))
    assert {name: bool(error) for name, error in ended.items()} == {
        "learning_rate=0.001,seed=0": False,
        "learning_rate=0.003,seed=0": True,
        "learning_rate=0.01,seed=0": False,
    }
    assert "code 9" in point.failure(tmp_path, given.points[1])


class Executor:
    """Stand in for submitit's, whose import takes over the logging of the process."""

    parameters: ClassVar[dict] = {}

    def __init__(self, folder: Path, cluster: str):
        if cluster == "slurm":
            raise RuntimeError("Could not detect SLURM")

    def update_parameters(self, **given):
        if "no_such" in given:
            raise NameError("Unknown argument(s): no_such")
        Executor.parameters = given

    def map_array(self, task, *columns):
        return [Job(task, *row) for row in zip(*columns, strict=True)]


class Job:
    job_id = "7"

    def __init__(self, task, *row):
        self.outcome = None
        self.paths = types.SimpleNamespace(stderr="err.txt")
        try:
            self.code = task(*row)
        except MemoryError as error:
            self.outcome = error

    def done(self) -> bool:
        return True

    def exception(self):
        return self.outcome

    def result(self) -> int:
        return self.code


def test_jobs_of_slurm_run_the_points_and_one_that_dies_is_a_failure(trainer: Trainer, tmp_path, monkeypatch):
    monkeypatch.setitem(
        sys.modules,
        "submitit",
        types.SimpleNamespace(AutoExecutor=Executor, JobEnvironment=types.SimpleNamespace(USR_SIG="USR2")),
    )
    main = point.main

    def dies(directory: str, name: str) -> int:
        if name.startswith("learning_rate=0.01,"):
            raise MemoryError("out of memory")
        return main(directory, name)

    monkeypatch.setattr(point, "main", dies)
    for wrong, says in (({}, "detect SLURM"), ({"cluster": "local", "no_such": 1}, "no_such")):
        with pytest.raises(ConfigError, match=says):
            run.sweep(planned(RATES), tmp_path / "none", slurm=wrong, say=silent)
    assert not (tmp_path / "none").exists()
    options = {"cluster": "local", "timeout_min": 5}
    with pytest.raises(GenjaxError, match=r"1 of 3 runs failed.*job 7 ended with out of memory"):
        run.sweep(planned(RATES), tmp_path, slurm=options, say=silent)
    assert Executor.parameters["timeout_min"] == 5
    assert trainer.trained == ["learning_rate=0.001,seed=0", "learning_rate=0.003,seed=0"]


def test_a_damaged_sweep_is_one_error(trainer: Trainer, tmp_path: Path):
    run.sweep(planned(RATES), tmp_path, say=silent)
    (tmp_path / "results.json").write_text('{"settings": [{}]}')
    with pytest.raises(DataError, match=r"results\.json cannot be read"):
        report.write(tmp_path)
    (tmp_path / "sweep.json").write_text("[1]")
    with pytest.raises(DataError, match=r"sweep\.json does not describe a sweep"):
        run.sweep(planned(RATES), tmp_path, say=silent)


def test_scores_are_found_by_their_name_or_its_beginning():
    scores = [Score("frechet", 1.0), Score("samples_per_second_4", 2.0), Score("bits_per_dim/bound", 3.0)]
    for name, value in {"frechet": 1, "samples_per_second": 2, "bits_per_dim": 3, "likelihood": 3}.items():
        assert point.choose(scores, name).value == value
    assert point.choose(scores, "fre") is None
    known = {"frechet": "frechet", "bits_per_dim": "likelihood", "samples_per_second": "speed"}
    assert check.metric_of("bits_per_dim/bound", known) == "likelihood"
    assert check.metric_of("samples_per_second_64", known) == "speed"
    assert check.metric_of("frechet/bound_x", known) is None


# --- a real one ----------------------------------------------------------------------------------------


def test_a_killed_sweep_keeps_what_is_finished_and_resumes_the_rest(tmp_path: Path):
    small = ["train.steps=60", "train.checkpoint_every=10", "train.log_every=1", "train.tensorboard=False"]
    config, field = "digits/ngram:smoke", "model.strength=4.0,8.0"
    command = [sys.executable, "-m", "genjax.cli", "sweep", f"--config={config}", f"--grid={field}"]
    command += [*(f"--config.{s}" for s in small), f"--dir={tmp_path}"]
    first, second = (tmp_path / f"strength={x},seed=0" for x in (4, 8))
    env = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}  # one device
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (second / "checkpoints" / "10").exists():
        assert process.poll() is None, "the sweep ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (second / point.TRAINED).exists(), "the kill came too late to prove anything"
    kept = (first / point.TRAINED).stat().st_mtime_ns
    logged = (second / "metrics.jsonl").read_text().splitlines()[:8]
    raw = settings.load(config, small)
    page = run.sweep(plan.make(config, raw, lists=[field]), tmp_path, say=silent)
    assert (first / point.TRAINED).stat().st_mtime_ns == kept, "trained twice"
    # The lines hold seconds: a run that began again would have written others.
    assert (second / "metrics.jsonl").read_text().splitlines()[:8] == logged
    assert page.read_text().count('class="spot"') == 2 + 2
