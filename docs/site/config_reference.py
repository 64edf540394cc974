"""Write the reference of every field of a config from the dataclasses that define them."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genjax import data, evaluation, settings, training
from genjax.config import describe
from genjax.core import Model
from genjax.sampling import autoregressive, beam, diffusion, logits, masked
from genjax.training import optimizers
from genjax.workflows import assemble, entries, fields
from genjax.workflows.budget import Budget

CONFIGS = Path(__file__).parent.parent.parent / "configs"
SECTIONS: dict[str, tuple[str, Any]] = {
    "data": ("The dataset, and how it is batched.", data.Config),
    "optimizer": (
        "The optimizer and its schedule. `optimizers.PLAYER` has the same fields, for one player.",
        optimizers.Config,
    ),
    "train": ("How long and how a model is trained.", training.Config),
    "evaluate": ("How a run is scored.", evaluation.Config),
    "stages.NAME": (
        "An earlier stage of a run: a text is the directory of a run, a section has these fields.",
        settings.Stage,
    ),
}
COMPARISON: dict[str, tuple[str, Any]] = {
    "comparison": ("The config of `genjax compare`.", entries.Config),
    "entries.NAME": ("One model of a comparison.", entries.Entry),
    "budget": ("What every entry may spend.", Budget),
}
SHARED = (
    logits.Truncation,
    masked.Refinement,
    autoregressive.generate,
    beam.beam_search,
    diffusion.sample,
)
"""Where options of samplers are described that a model hands on."""
HEAD = """# Config reference

This page is generated from the dataclasses that define the fields, when the site is built. On the command
line `genjax config NAME` prints the resolved values of one config, and `--describe` adds these descriptions.

A field is set in a config file, or by `--config.SECTION.FIELD=VALUE`. Values are Python literals; text needs
no quotes. An unknown field is refused, with the nearest known one; so is a value of another type or out of
its range.

Beside the sections below, a config has `name` (text: the name of the run, whose directory is `runs/NAME`;
the name of the model by default) and `seed` (an integer of 32 bits, 0 by default: of initialisation and
training)."""
MODEL = """`model.name` is a file of `genjax/models`, or the dotted name of a module outside it. The other
fields are those of that model."""
SAMPLE = """Options of a model's sampler: the section `sample` of a config, or `--sample.OPTION=VALUE` on the
command line of `genjax sample` and `genjax evaluate`. `latent` has the options of its prior. `classifier` has
no sampler."""


def page() -> str:
    """Return the page as Markdown."""
    return "\n\n".join((HEAD, *_sections(SECTIONS), *_model(), *_sample(), *_sections(COMPARISON))) + "\n"


def _sections(sections: dict[str, tuple[str, Any]]) -> Iterator[str]:
    for title, (text, cls) in sections.items():
        yield from (f"## {title}", text, _table(cls))
        for name, inner in _nested(cls):
            yield from (f"### {title}.{name}", _table(inner))


def _model() -> Iterator[str]:
    yield from ("## model", MODEL)
    for name in settings.models():
        module = settings.model_module(name)
        yield from (
            f"### model.name={name}",
            (module.__doc__ or "").partition("\n\n")[0],
            _table(module.Config),
        )


def _sample() -> Iterator[str]:
    yield from ("## sample", SAMPLE)
    for title, rows in _samplers().items():
        yield from (f"### {title}", _markdown(rows))


Row = tuple[str, str, str, str]


def _table(cls: Any) -> str:
    return _markdown(list(_rows(cls)))


def _rows(cls: Any) -> Iterator[Row]:
    """Yield (name, type, default, text) of each field of a dataclass."""
    hints = typing.get_type_hints(cls, include_extras=True)
    texts = fields.attributes(cls)
    for field in dataclasses.fields(cls):
        made = field.default_factory is not dataclasses.MISSING
        default = field.default_factory() if made else field.default  # type: ignore[misc]
        if dataclasses.is_dataclass(default):
            shown = "see below"
        else:
            shown = "required" if default is dataclasses.MISSING else f"`{default!r}`"
        yield field.name, describe(hints[field.name]), shown, texts.get(field.name, "")


def _nested(cls: Any) -> Iterator[tuple[str, Any]]:
    """Yield the sections inside a section: fields that are dataclasses, or mappings to them."""
    if cls is entries.Config:  # its entries and its budget have headings of their own
        return
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            yield name, hint
        inner = typing.get_args(hint)
        if typing.get_origin(hint) is dict and dataclasses.is_dataclass(inner[1]):
            yield f"{name}.NAME", inner[1]


def _samplers() -> dict[str, list[Row]]:
    """Return {models with the same options: rows}."""
    found: dict[tuple[Row, ...], list[str]] = {}
    for name, model in _models():
        found.setdefault(tuple(_options(model)), []).append(name)
    return {", ".join(names): list(rows) for rows, names in found.items() if rows}


def _models() -> Iterator[tuple[str, Model]]:
    """Yield each architecture with a sampler, built by its first such config on embedded data."""
    seen: set[str] = set()
    for path in sorted(CONFIGS.rglob("*.py"), key=lambda p: (p.parent.name != "digits", p)):
        name = str(path.relative_to(CONFIGS).with_suffix(""))
        raw = settings.load(f"{name}:smoke")
        model = raw.get("model", {}).get("name")
        embedded = raw.get("data", {}).get("name") in ("digits", "pydoc", "ring")
        if model is None or model in seen or raw.get("stages") or not embedded:
            continue
        built = assemble.assemble(settings.complete(raw)).model
        if built.sample is not None:  # a variant of an architecture may have none
            seen.add(model)
            yield model, built


def _options(model: Model) -> Iterator[Row]:
    """Yield a row for each option of a sampler: its keyword-only parameters."""
    sample: Any = inspect.unwrap(model.sample)  # type: ignore[arg-type]  # the function that was jitted
    parameters = inspect.signature(sample, eval_str=True).parameters.values()
    options = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    texts = _texts(sample, {option.name for option in options})
    for option in options:
        yield option.name, describe(option.annotation), f"`{option.default!r}`", texts.get(option.name, "")


def _texts(sample: Any, options: set[str]) -> dict[str, str]:
    """Return {option: text}: the sampler's own, or else that of the function or class it hands it on to."""
    own, *shared = (
        {n: t for n, t in _described(source).items() if n in options} for source in (sample, *SHARED)
    )
    texts = {n: t for n, t in own.items() if not t.startswith("see ")}
    for found in sorted(shared, key=len, reverse=True):
        texts = {**found, **texts}
    return texts


def _described(source: Any) -> dict[str, str]:
    texts = {**fields.attributes(source), **fields.attributes(source, "Args")}
    return {name: text.replace("see `", f"see `{source.__module__}.") for name, text in texts.items()}


def _markdown(rows: list[Row]) -> str:
    lines = ["| field | value | default | meaning |", "|---|---|---|---|"]
    for name, kind, default, text in rows:
        cells = (f"`{name}`", kind.replace("1000000000000.0", "1e12"), default, text)
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
