"""Describe the rows of a dataset: elements with a kind and a role. Standard library only at import."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

Role = Literal["target", "condition", "auxiliary"]
ROLES: tuple[Role, ...] = ("target", "condition", "auxiliary")


@dataclasses.dataclass(frozen=True)
class Element:
    """Describe one named array of a batch, without the batch axis.

    Attributes:
      shape: of one row, e.g. (28, 28, 1) for an image (height, width, channels).
      dtype: a NumPy dtype name, e.g. "uint8".
      levels: the values are integers in [0, levels): the grey levels of an image (17 for 4-bit digits
        with an inclusive maximum, 256 for 8-bit images), the classes of a label, the vocabulary of
        tokens. None for real-valued data.
      kind: how the array is drawn, saved and scored: a file of genjax/kinds or a dotted module name.
        None for an array that accompanies another one (a mask, a length) and is never shown by itself.
      role: "target" is what a model generates, "condition" what its sampler is given, "auxiliary"
        anything else.
      rate: items of a sequence per unit of time, for kinds that are heard: frames of a quarter note of a
        piano roll. None if it is unknown or means nothing.

    Raises:
      ValueError: an unknown role.
    """

    shape: tuple[int, ...]
    dtype: str
    levels: int | None = None
    kind: str | None = None
    role: Role = "auxiliary"
    rate: float | None = None

    def __post_init__(self):
        if self.role not in ROLES:
            raise ValueError(f"role must be one of {', '.join(ROLES)}, got {self.role!r}")

    def replace(self, **changes: Any) -> Element:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)


@dataclasses.dataclass(frozen=True)
class Spec:
    """Describe what a model may know of a dataset before it sees a row.

    Attributes:
      elements: the named arrays of a batch, in the order in which they are shown. `mask` is always
        present in a batch and never listed here.
      rows: rows of the training split: the capacity that a counting model must provide.
      special: token ids with a meaning of their own, by name: pad, eos, bos, unk, mask, cls, sep,
        sentinel_0, sentinel_1 ... Empty if the tokenizer has none.
      paired: the target of a row is the reference answer to the conditions of the same row (a
        translation of its source). False for unpaired domains and for class labels.
      held_pairs: the rows to evaluate with are such pairs, and training rows are not: unpaired domains whose
        true pairs are known.
    """

    elements: Mapping[str, Element]
    rows: int = 0
    special: Mapping[str, int] = dataclasses.field(default_factory=dict)
    paired: bool = False
    held_pairs: bool = False

    def __contains__(self, name: str) -> bool:
        return name in self.elements

    def __getitem__(self, name: str) -> Element:
        return self.elements[name]

    def of_role(self, role: Role) -> tuple[str, ...]:
        """Return the names of the elements of one role, in order."""
        return tuple(name for name, e in self.elements.items() if e.role == role)

    @property
    def targets(self) -> tuple[str, ...]:
        """The elements that a model generates."""
        return self.of_role("target")

    @property
    def conditions(self) -> tuple[str, ...]:
        """The elements that a sampler is given."""
        return self.of_role("condition")

    @property
    def label(self) -> str | None:
        """The class label: the only scalar element with levels, or the only such condition; else None."""
        scalar = [n for n, e in self.elements.items() if e.shape == () and e.levels]
        given = [n for n in scalar if self.elements[n].role == "condition"]
        found = given if len(given) == 1 else scalar
        return found[0] if len(found) == 1 else None

    @property
    def factors(self) -> tuple[str, ...]:
        """The known causes of a row, which no model is given: auxiliary scalars with levels, if several."""
        found = [n for n in self.of_role("auxiliary") if self[n].shape == () and self[n].levels]
        return tuple(found) if len(found) > 1 else ()

    def classes(self, name: str | None = None) -> int:
        """Return the number of classes of the label (or of the named element); 0 without one."""
        name = self.label if name is None else name
        element = None if name is None else self.elements.get(name)
        return (element.levels or 0) if element is not None else 0

    def example(self, batch: int) -> dict[str, Any]:
        """Return a batch of zeros of this form (jax arrays), for tracing and initialisation."""
        import jax.numpy as jnp

        rows = {k: jnp.zeros((batch, *e.shape), e.dtype) for k, e in self.elements.items()}
        return {**rows, "mask": jnp.ones((batch,), jnp.float32)}


def to_json(spec: Spec) -> dict[str, Any]:
    """Return a spec as plain data."""
    elements = {k: _plain(e) for k, e in spec.elements.items()}
    out: dict[str, Any] = {"elements": elements, "rows": spec.rows}
    if spec.special:
        out["special"] = dict(spec.special)
    for name in ("paired", "held_pairs"):
        if getattr(spec, name):
            out[name] = True
    return out


def _plain(element: Element) -> dict[str, Any]:
    """Return an element as plain data; a rate only if it is known."""
    found = {**dataclasses.asdict(element), "shape": list(element.shape)}
    if element.rate is None:
        del found["rate"]
    return found


def from_json(data: Mapping[str, Any]) -> Spec:
    """Return the spec that `to_json` turned into `data`; fields of later versions are ignored."""
    known = {f.name for f in dataclasses.fields(Element)} - {"shape"}
    elements = {
        k: Element(tuple(e["shape"]), **{n: v for n, v in e.items() if n in known})
        for k, e in data["elements"].items()
    }
    flags = {name: data.get(name, False) for name in ("paired", "held_pairs")}
    return Spec(elements, data.get("rows", 0), data.get("special", {}), **flags)
