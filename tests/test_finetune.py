"""Fine-tune an imported GPT-2 on another text through `train.init_from` and `train.freeze`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from genjax import cli, interop
from genjax.config import build
from genjax.core import Element, Spec
from genjax.data.tokenizers import Options, fit
from genjax.models import gpt
from genjax.training import checkpoint
from genjax.training.checkpoint import named

T = 12
FIELDS = {"layers": 3, "heads": 2, "width": 8, "bias": True, "tied": True}
LOWER = r"token_embedding|position_embedding|stack/block_[01]/"
"""Paths of the embeddings and of the first two of three blocks."""
TEXT = "The quick brown fox jumps over the lazy dog, and the dog sleeps on. " * 40


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 in the files of transformers, imported as a run."""
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = fit("bpe", TEXT, Options(vocabulary=280))
    tokens = Element((T + 1,), "int32", tokenizer.vocabulary, "tokens", "target")
    spec = Spec({"tokens": tokens}, special=tokenizer.special)
    model = gpt.build(build(gpt.Config, FIELDS), spec, {})
    variables = jax.jit(lambda key: model.init(key, spec.example(1), {}))(jax.random.key(1))
    theirs = interop.save(folder / "theirs", {"name": "gpt", **FIELDS}, variables, special=spec.special)
    (theirs / "tokenizer.json").write_text(json.dumps(tokenizer.data))
    data = ("--data.limit=8", "--data.batch=8", f"--data.length={T}")
    assert cli.main(["import", str(theirs), "--dir", str(folder / "run"), *data]) == 0
    return folder / "run"


def finetune(imported: Path, where: Path, *fields: str) -> int:
    """Run `genjax train` on another text with the config of the imported run."""
    text = where.parent / "other.txt"
    text.write_text(TEXT)
    quick = (
        "train.steps=4",
        "train.progress=False",
        "train.tensorboard=False",
        "optimizer.learning_rate=0.01",
    )
    options = (f"data.name=text:{text}", "data.limit=None", "train.eval_batches=1", *quick, *fields)
    config = ["--config", str(imported / "config.json"), "--dir", str(where)]
    return cli.main(["train", *config, *(f"--config.{option}" for option in options)])


def params(run: Path) -> dict[str, np.ndarray]:
    """Return the parameters of a run's last checkpoint, by path."""
    return {path: np.asarray(x) for path, x in named(checkpoint.load(run).variables.params).items()}


def changed(before: Path, after: Path) -> set[str]:
    """Return the paths of the parameters that differ in any bit."""
    x = params(before)
    y = params(after)
    assert x.keys() == y.keys()
    return {path for path in x if x[path].tobytes() != y[path].tobytes()}


def test_the_first_layers_stay_at_the_imported_bits(imported: Path, tmp_path: Path):
    # AdamW with weight decay would move a parameter even where its gradient is zero.
    fields = (f"train.init_from={imported}", f"train.freeze={LOWER}", "optimizer.weight_decay=0.1")
    assert finetune(imported, tmp_path / "run", *fields) == 0
    frozen = {
        path for path in params(imported) if "embedding" in path or "block_0" in path or "block_1" in path
    }
    moved = changed(imported, tmp_path / "run")
    assert len(frozen) > 20
    assert moved == params(imported).keys() - frozen


def test_without_freeze_every_layer_moves(imported: Path, tmp_path: Path):
    assert finetune(imported, tmp_path / "run", f"train.init_from={imported}") == 0
    assert changed(imported, tmp_path / "run") == params(imported).keys()


def test_without_init_from_the_weights_are_new(imported: Path, tmp_path: Path):
    assert finetune(imported, tmp_path / "run", f"train.freeze={LOWER}") == 0
    assert any("block_0" in path for path in changed(imported, tmp_path / "run"))


def test_a_regex_that_finds_nothing_is_refused(imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert finetune(imported, tmp_path / "run", f"train.init_from={imported}", "train.freeze=stak/") != 0
    assert "train.freeze" in capsys.readouterr().err
    assert finetune(imported, tmp_path / "new", f"train.init_from={imported}", "train.init_match=stak/") != 0
    assert "train.init_match" in capsys.readouterr().err


def test_another_tokenizer_is_refused(imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    other = ("data.tokenizer=chars", "data.tokenizer_file=None")
    assert finetune(imported, tmp_path / "run", f"train.init_from={imported}", *other) != 0
    assert "train.init_from: leaf" in capsys.readouterr().err


def test_a_saved_config_has_no_sizes(imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert cli.main(["train", "--config", f"{imported / 'config.json'}:smoke", "--dir", str(tmp_path)]) != 0
    assert "no sizes" in capsys.readouterr().err


def test_an_imported_run_can_be_moved_and_trained_further(imported: Path, tmp_path: Path):
    moved = Path(shutil.copytree(imported, tmp_path / "moved"))
    saved = json.loads((moved / "config.json").read_text())
    assert saved["data"]["tokenizer_file"] == "tokenizer.json"
    (moved / "tokenizer.json").unlink()  # dataset.json has it, too
    assert cli.main(["sample", str(moved), "--num=1", "--prompt=the fox"]) == 0
    assert cli.main(["evaluate", str(moved), "--evaluate.metrics=('likelihood',)"]) == 0
    fields = ("train.steps=2", "train.tensorboard=False", "train.progress=False", "train.eval_batches=1")
    command = ["train", "--config", str(moved / "config.json"), "--dir", str(moved)]
    assert cli.main([*command, *(f"--config.{field}" for field in fields)]) == 0
    assert checkpoint.saved_steps(moved)[-1] == 2
