"""Show, save, score and parse data by its kind. One file per kind; NumPy and Pillow only, never jax.

`Element.kind` names a file of this package, or a dotted module outside it. Such a module is the only place
that knows how values of its kind look, and it defines what follows (`Kind`). Names that a kind does not need
may be left out: `of` fills in the defaults of `_Defaults`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

from genjax import plugins
from genjax.spec import Element, Spec

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from genjax.markup import Html

PACKAGE = "genjax.kinds"


class Unit(NamedTuple):
    """Describe the unit in which a likelihood of a kind is reported.

    Attributes:
      name: of the score, e.g. "bits_per_dim".
      label: as a report writes it, e.g. "Bits per dimension".
      base: "nats", or "bits" (nats / ln 2).
      criterion: which of the seven criteria the likelihood belongs to.
    """

    name: str
    label: str
    base: Literal["nats", "bits"]
    criterion: Literal["coherence", "realism"]


class Field(NamedTuple):
    """Hold the values of one element in some rows, with what is needed to show them.

    Attributes:
      name: of the element.
      element: its form.
      rows: every column of the same rows; a kind finds its masks and lengths here.
      tokenizer: of the dataset; None for data without text.
      classes: names of the label's classes, where they are known.
      special: token ids with a meaning of their own, by name.
    """

    name: str
    element: Element
    rows: Mapping[str, Any]
    tokenizer: Any = None
    classes: tuple[str, ...] = ()
    special: Mapping[str, int] = {}

    @property
    def values(self) -> np.ndarray:
        """The array of this element, rows first."""
        return self.rows[self.name]

    def beside(self, suffix: str) -> Any:
        """Return the column that accompanies this element, `<name>_<suffix>`, or None."""
        return self.rows.get(f"{self.name}_{suffix}")


class Kind(Protocol):
    """List what a kind's module provides. Functions of a `Field` see all rows at once.

    Attributes:
      UNIT: of a likelihood of such a target; None where none is defined.
      RUNNING: rows are windows of a sequence whose first item is given and not predicted.
      OPTION: the command-line option of `genjax sample` that gives such a condition: "label", "prompt" or
        "input"; None for no option.
      SUFFIX: of the file that `save` writes and that a person opens, e.g. ".png".
    """

    UNIT: Unit | None
    RUNNING: bool
    OPTION: str | None
    SUFFIX: str

    def describe(self, field: Field) -> list[tuple[str, str]]:
        """Return (what, value) lines for `genjax data`, beside shape and range."""
        ...

    def preview(self, field: Field) -> Image.Image | str:
        """Return a picture (or a text) of the rows."""
        ...

    def save(self, field: Field, path: Path, columns: int) -> Path:
        """Write the rows where a person can look at or listen to them; return the file to open.

        `path` has no suffix; kinds may write several files beside each other.
        """
        ...

    def card(self, field: Field, alt: str, scale_with: Field | None) -> Html:
        """Return the rows, large, as part of a report. `scale_with` (real rows) sets the axes of a plot."""
        ...

    def strip(self, field: Field, alt: str, count: int) -> Html | None:
        """Return `count` rows side by side for the head of a report; None if a kind has no such form."""
        ...

    def captions(self, field: Field) -> list[str] | None:
        """Return a short text for each row, to be put under the row's card; None if there is none."""
        ...

    def raw(self, field: Field) -> np.ndarray | None:
        """Return (N, D) float32 in which raw-space metrics measure distances; None if there is none."""
        ...

    def prompts(self, element: Element, index: np.ndarray) -> np.ndarray | None:
        """Return the conditions of samples `index` (balanced classes); None if held-out rows give them."""
        ...

    def parse(self, given: str, name: str, element: Element, num: int, context: Any) -> dict[str, Any]:
        """Return the columns of `num` rows of this condition from the value of a command-line option.

        Args:
          context: the dataset's description, with `tokenizer`, `classes` and `special`.

        Raises:
          ConfigError: the value does not fit the element.
          DataError: a file cannot be read.
        """
        ...


class _Defaults:
    """Provide what a kind leaves out."""

    UNIT = None
    RUNNING = False
    OPTION = None
    SUFFIX = ".npz"

    @staticmethod
    def describe(field: Field) -> list[tuple[str, str]]:
        del field
        return []

    @staticmethod
    def strip(field: Field, alt: str, count: int) -> None:
        del field, alt, count

    @staticmethod
    def captions(field: Field) -> None:
        del field

    @staticmethod
    def raw(field: Field) -> None:
        del field

    @staticmethod
    def prompts(element: Element, index: np.ndarray) -> None:
        del element, index


class _Complete:
    """Present a kind's module with the defaults filled in."""

    def __init__(self, module: ModuleType):
        self._module = module

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self._module, name)
        except AttributeError:
            return getattr(_Defaults, name)


def names() -> list[str]:
    """Return the names of the kinds of this package."""
    return plugins.names(PACKAGE)


def of(element: Element) -> Kind | None:
    """Return the kind of an element; None for one that is never shown by itself.

    Raises:
      ConfigError: no such kind; names the nearest.
    """
    if element.kind is None:
        return None
    return cast(Kind, _Complete(plugins.load(PACKAGE, element.kind, "kind of data")))


def shown(spec: Spec, names: Sequence[str]) -> list[tuple[str, Kind]]:
    """Return (name, kind) of those of the named elements that have a kind, in the order of the spec."""
    found = [(name, of(spec[name])) for name in spec.elements if name in names]
    return [(name, kind) for name, kind in found if kind is not None]


def main_target(spec: Spec) -> str | None:
    """Return the first target that has a kind: what metrics of one array measure; None without one."""
    return next((name for name, _ in shown(spec, spec.targets)), None)
