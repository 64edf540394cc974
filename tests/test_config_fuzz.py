"""Every field of every section takes the values that its type declares, and refuses all others by name.

pytest tests/test_config_fuzz.py -s -k every_value     prints how many values were tried and accepted
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
from config_values import JSON, NASTY, parts, permits, value_of
from hypothesis import given, settings
from hypothesis import strategies as st

from genjax import cli, data, evaluation, training
from genjax import settings as configs
from genjax.config import build
from genjax.errors import ConfigError, GenjaxError
from genjax.sampling import sampler
from genjax.training import optimizers
from genjax.workflows import assemble, entries, planned

SMOKE = (
    "digits/gpt",
    "digits/vae",
    "digits/gan",
    "digits/diffusion",
    "digits/ngram",
    "digits/lstm",
    *("digits/latent", "pydoc/bert", "pydoc/t5"),
)
"""Configs whose samplers are tried: one of every sort of model that draws samples."""
FREE = {
    *("data.documents", "compare.title", "compare.entries.a.family", "compare.entries.a.description"),
    *(
        "compare.entries.a.overrides",
        "stages.a.overrides",
        "optimizer.options",
        "compare.evaluate",
        "model.gan.network",
        "model.latent.prior",
        "model.distillation.student",
        "model.meanflow.network",
        "evaluate.likelihood",
        "train.sharding",
    ),
    "train.logical",
}
"""Fields without a range of their own: any text, or sections and lists that other code checks."""


class Field(NamedTuple):
    """Hold one field: its dotted path, its type, and a function that sets it and returns what it becomes."""

    path: str
    hint: Any
    set: Callable[[Any], Any]


def fields_of(cls: Any, path: str, given: Mapping[str, Any] = {}, wrap: Any = None) -> Iterator[Field]:
    """Yield the fields of a dataclass and of those in it."""
    wrap = wrap or (lambda raw: build(cls, raw, path))
    hints = typing.get_type_hints(cls, include_extras=True)

    def get(name: str, value: Any) -> Any:
        return getattr(wrap({**given, name: value}), name)

    for f in dataclasses.fields(cls):
        yield Field(f"{path}.{f.name}", hints[f.name], functools.partial(get, f.name))
        for inner in parts(hints[f.name]):
            if dataclasses.is_dataclass(inner):
                own = {"config": "digits/gpt"} if inner is entries.Entry else {}
                yield from fields_of(inner, f"{path}.{f.name}.a", own)


def all_fields() -> list[Field]:
    entry = {"config": "digits/gpt"}
    found = [
        *fields_of(data.Config, "data"),
        *fields_of(training.Config, "train"),
        *fields_of(optimizers.Config, "optimizer"),
        *fields_of(evaluation.Config, "evaluate"),
        *fields_of(configs.Stage, "stages.a", {"run": "runs/x"}),
        *fields_of(entries.Config, "compare", {"name": "x", "entries": {"a": entry}}),
    ]
    for name in configs.models():
        own = {"prior": {"name": "gpt"}} if name == "latent" else {}
        found += fields_of(configs.model_module(name).Config, f"model.{name}", own)
    return found


@functools.cache
def datasets() -> assemble.Datasets:
    return assemble.Datasets()


@functools.cache
def options_of(name: str) -> list[Field]:
    """Return the options of a model's sampler."""
    model = planned.experiment(configs.complete(configs.load(f"{name}:smoke")), datasets()).model

    def get(option: str, value: Any) -> Any:
        return sampler.options(model, {option: value})[option]

    options = sampler.declared(model).values()
    return [Field(f"sample.{o.name}", o.annotation, functools.partial(get, o.name)) for o in options]


FIELDS = all_fields()


def tried(action: Callable[[], Any]) -> tuple[Any, ConfigError | None]:
    """Return (result, None), or (None, the error)."""
    try:
        return action(), None
    except ConfigError as error:
        return None, error


def outcome(field: Field, value: Any) -> str:
    """Set a field; return "accepted" or "refused", after checking that this is right and said clearly."""
    found, error = tried(lambda: field.set(value))
    declared = permits(field.hint, value)
    if error is None:
        assert declared, f"{field.path} accepts {value!r:.80}"
        json.dumps(plain(found), allow_nan=False)
        again = field.set(plain(found))
        assert again == found, f"{field.path}={value!r:.80} becomes {found!r} and then {again!r}"
        return "accepted"
    said = f"{field.path}={value!r:.80}: {error}"
    assert "\n" not in error.message, said
    assert field.path.rpartition(".")[2] in error.message, said
    assert declared or error.hint, said
    return "refused beside other fields" if declared else "refused"


def plain(value: Any) -> Any:
    """Return a value as config.json holds it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def test_every_field_declares_its_values():
    for field in FIELDS:
        if field.path in FREE:
            continue
        bare = [p for p in parts(field.hint) if p in (int, float, str, Any)]
        assert not bare, f"{field.path} has no range: {field.hint}"


@pytest.mark.parametrize("name", SMOKE)
def test_every_option_of_a_sampler_declares_its_values(name: str):
    for option in options_of(name):
        bare = [p for p in parts(option.hint) if p in (int, float, Any) or isinstance(p, str)]
        assert not bare, f"{option.path}: {option.hint}"


def test_every_value_of_every_field_is_accepted_as_declared_or_refused_by_name():
    counts = Counter(outcome(field, value) for field in FIELDS for value in NASTY)
    for name in SMOKE:
        counts += Counter(outcome(field, value) for field in options_of(name) for value in NASTY)
    number = len(FIELDS) + sum(len(options_of(name)) for name in SMOKE)
    print(f"\n{number} fields x {len(NASTY)} values: {dict(counts)}")
    assert counts["accepted"] > number
    assert counts["refused"] > 10 * number


@settings(max_examples=500)
@given(st.data())
def test_any_value_of_any_field(draw: st.DataObject):
    field = draw.draw(st.sampled_from(FIELDS))
    outcome(field, draw.draw(value_of(field.hint)))


SHIPPED = sorted(
    str(p.relative_to(configs.ROOT / "configs").with_suffix(""))
    for p in (configs.ROOT / "configs").rglob("*.py")
    if p.parent.name != "compare"
)
RAW = {name: configs.complete(configs.load(name)).raw for name in SHIPPED}


def paths(raw: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in raw.items():
        yield f"{above}{key}"
        if isinstance(value, Mapping):
            yield from paths(value, f"{above}{key}.")


@settings(max_examples=300)
@given(st.data())
def test_any_override_of_any_shipped_config(draw: st.DataObject):
    name = draw.draw(st.sampled_from(SHIPPED))
    path = draw.draw(st.sampled_from(sorted(paths(RAW[name]))))
    text = draw.draw(st.sampled_from(NASTY).map(repr) | JSON.map(repr) | st.text(max_size=12))
    raw = json.loads(json.dumps(RAW[name]))
    found, error = tried(lambda: (configs.set_dotted(raw, f"{path}={text}"), configs.complete(raw))[1])
    if error is not None:
        assert "\n" not in error.message
        assert path.rpartition(".")[2] in error.message, f"{path}={text}: {error}"
    elif not path.startswith("sample"):  # its options are typed when the model is built
        assert configs.complete(json.loads(json.dumps(found.raw, allow_nan=False))) == found


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(configs.SECTIONS) | st.text(max_size=4), JSON))
def test_any_object_as_a_config(raw: Any):
    with pytest.raises(ConfigError) as caught:
        configs.complete(raw)
    assert "\n" not in caught.value.message


REFUSED = [
    ("digits/gpt", "model.heads=3", "heads"),
    ("digits/gpt", "optimizers.generator.clip=1", "optimizers.generator"),
    ("digits/gpt", "optimizer.name=os.path", "os.path is no optimizer"),
    ("digits/gpt", "train.averages.eval.players=['x']", "train.averages.eval.players"),
    ("digits/gpt", "data.name=folder:nowhere", "nowhere"),
    ("digits/gpt", "stages.codec=nowhere", "nowhere"),
    ("digits/gpt", "evaluate.average=emaa", "evaluate.average"),
    ("digits/gpt", "evaluate.metrics=['os.path']", "os.path is no metric"),
    ("digits/gpt", "evaluate.features=os.path", "os.path is no feature extractor"),
    ("digits/gpt", "sample.temperature=0,8", "sample.temperature"),
    ("digits/gpt", "sample.top_k=10.5", "sample.top_k"),
    ("digits/gpt", "sample.length=1000", "length"),
    ("digits/diffusion", "sample.guidance=nan", "sample.guidance"),
    ("digits/diffusion", "sample.steps=[]", "sample.steps"),
    ("digits/diffusion", "sample.steps=51", "timesteps=50"),
    ("digits/gpt", "model.mlp=0.001", "hidden features"),
    ("digits/diffusion", "sample.sampler=dimm", "dimm"),
    ("digits/latent", "optimizer.warmup=100", "do not fit into 8 updates"),
    ("digits/latent", "model.codec=x", "stages.x"),
    ("digits/latent", "stages.codec.config=digits/vea", "digits/vea"),
]
"""(config, override, what the error says) where only the model and the data show the error."""
TRAIN = [
    ("digits/gpt", "train.init_from=nowhere", "train.init_from"),
    ("digits/ngram", "train.keep_best=accuracy", "train.keep_best"),
    ("digits/ngram", "train.wandb=project", "train.wandb"),
    ("digits/latent", "sample.guidance=[1]", "sample.guidance"),
]
"""The same where only the training shows the error, or where other runs would be trained first."""


@pytest.mark.parametrize(("name", "override", "says"), REFUSED)
def test_what_only_model_and_data_show_is_refused_by_name(name: str, override: str, says: str):
    with pytest.raises(GenjaxError) as caught:
        planned.experiment(configs.complete(configs.load(f"{name}:smoke", [override])), datasets())
    assert says in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(("name", "override", "says"), TRAIN)
def test_a_run_that_is_refused_writes_nothing(name, override, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert cli.main(["train", f"--config={name}:smoke", f"--config.{override}"]) in (2, 3)
    err = capsys.readouterr().err
    assert says in err
    assert "hint:" in err
    assert list(tmp_path.rglob("*")) == []


def test_whole_numbers_may_be_written_as_floats():
    (top_k,) = [o for o in options_of("digits/gpt") if o.path == "sample.top_k"]
    assert (top_k.set(10.0), type(top_k.set(10.0))) == (10, int)
    found = configs.complete(configs.load("digits/gpt", ["model.width=128.0", "seed=3.0"]))
    assert (found.model.width, found.seed) == (128, 3)
