"""Define what a kind of data provides. Standard library only at import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from genjax import files
from genjax.errors import ConfigError
from genjax.spec import Element

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from genjax.markup import Html


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
      tokenizer: of the dataset; None for data without text, and in reports, which read no tokenizer.
      classes: names of the label's classes, where they are known.
      special: token ids with a meaning of their own, by name.
      label: the name of the class label of these rows; None without one.
    """

    name: str
    element: Element
    rows: Mapping[str, Any]
    tokenizer: Any = None
    classes: tuple[str, ...] = ()
    special: Mapping[str, int] = {}
    label: str | None = None

    @property
    def values(self) -> np.ndarray:
        """The array of this element, rows first."""
        return self.rows[self.name]

    @property
    def labels(self) -> np.ndarray | None:
        """The class label of each row (N integers), or None."""
        return None if self.label is None else self.rows.get(self.label)

    def beside(self, suffix: str) -> Any:
        """Return the column that accompanies this element, `<name>_<suffix>`, or None."""
        return self.rows.get(f"{self.name}_{suffix}")

    def first(self, count: int) -> Field:
        """Return the field of the first `count` rows."""
        return self._replace(rows={name: column[:count] for name, column in self.rows.items()})


class Kind(Protocol):
    """List what a kind's module provides. Functions of a `Field` see all rows at once.

    A module outside the package may leave out any name; `Defaults` says what that means.

    Attributes:
      UNIT: of a likelihood of such a target; None where none is defined.
      RUNNING: rows are windows of a sequence whose first item is given and not predicted.
      OPTION: the command-line option of `genjax sample` that gives such a condition: "label", "prompt" or
        "input"; None for no option.
      SUFFIX: of the file that `save` writes and that a person opens, e.g. ".png".
      PICTURE: a condition of this kind is saved and shown as a picture beside the target.
    """

    UNIT: Unit | None
    RUNNING: bool
    OPTION: str | None
    SUFFIX: str
    PICTURE: bool

    def describe(self, field: Field) -> list[tuple[str, str]]:
        """Return (name, value) lines for `genjax data`, in addition to shape and range."""
        ...

    def preview(self, field: Field, captions: Sequence[str] | None = None) -> Image.Image | str | None:
        """Return a picture or a text of the rows; None if a kind is not shown by itself."""
        ...

    def save(self, field: Field, path: Path, columns: int, captions: Sequence[str] | None = None) -> Path:
        """Write the rows where a person can look at or listen to them; return the file to open.

        Args:
          path: without its suffix; a kind may write several files that differ in their suffix.
          columns: of a grid.
          captions: a text for each row, e.g. the prompt that the row answers.
        """
        ...

    def save_each(self, field: Field, folder: Path, names: Sequence[str]) -> list[Path] | None:
        """Write each row to a file of its own at its true size; None if a kind has no such form.

        Args:
          names: of the files, without their suffix.
        """
        ...

    def card(
        self, field: Field, alt: str, scale_with: Field | None = None, captions: Sequence[str] | None = None
    ) -> Html | None:
        """Return the rows, large, as part of a report; None if that needs a tokenizer and there is none.

        Args:
          alt: a description for readers who do not see pictures.
          scale_with: real rows, which set the axes of a plot.
          captions: a text for each row.
        """
        ...

    def strip(self, field: Field, alt: str, count: int) -> Html | None:
        """Return `count` rows side by side for the head of a report; None if a kind has no such form."""
        ...

    def row(self, field: Field, count: int, height: int) -> Image.Image | None:
        """Return `count` rows side by side as a picture with tiles of about `height` pixels, or None."""
        ...

    def tiles(self, field: Field, alt: str) -> list[Html] | None:
        """Return each row as a small picture, to be put beside another one; None without such a form."""
        ...

    def captions(self, field: Field) -> list[str] | None:
        """Return a short text for each row of a condition, shown with the row; None if there is none."""
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
          context: the dataset: its `name`, `spec`, `tokenizer` and `classes` are read.

        Raises:
          ConfigError: the value does not fit the element.
          DataError: a file cannot be read.
        """
        ...


class Defaults:
    """Provide what a kind leaves out."""

    UNIT = None
    RUNNING = False
    OPTION = None
    SUFFIX = ".npz"
    PICTURE = False

    @staticmethod
    def describe(field: Field) -> list[tuple[str, str]]:
        del field
        return []

    @staticmethod
    def preview(field: Field, captions: Sequence[str] | None = None) -> None:
        del field, captions

    @staticmethod
    def save(field: Field, path: Path, columns: int, captions: Sequence[str] | None = None) -> Path:
        """Write the element's column as a compressed npz."""
        del columns, captions
        return save_arrays(path.with_suffix(".npz"), {field.name: field.values})

    @staticmethod
    def save_each(field: Field, folder: Path, names: Sequence[str]) -> None:
        del field, folder, names

    @staticmethod
    def card(
        field: Field, alt: str, scale_with: Field | None = None, captions: Sequence[str] | None = None
    ) -> None:
        del field, alt, scale_with, captions

    @staticmethod
    def strip(field: Field, alt: str, count: int) -> None:
        del field, alt, count

    @staticmethod
    def row(field: Field, count: int, height: int) -> None:
        del field, count, height

    @staticmethod
    def tiles(field: Field, alt: str) -> None:
        del field, alt

    @staticmethod
    def captions(field: Field) -> None:
        del field

    @staticmethod
    def raw(field: Field) -> None:
        del field

    @staticmethod
    def prompts(element: Element, index: np.ndarray) -> None:
        del element, index

    @staticmethod
    def parse(given: str, name: str, element: Element, num: int, context: Any) -> dict[str, Any]:
        del given, element, num, context
        raise ConfigError(f"{name!r} cannot be given on the command line", "leave the option out")


def save_arrays(path: Path, rows: Mapping[str, Any]) -> Path:
    """Write named arrays as a compressed npz, atomically; return the path."""
    import numpy as np

    with files.replacing(path) as partial:
        np.savez_compressed(partial, **{k: np.asarray(v) for k, v in rows.items()})  # type: ignore[arg-type]
    return path
