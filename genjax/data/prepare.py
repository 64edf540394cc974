"""A catalogue dataset (TFDS) from its originals to plain columns on disk, once.

`python -m genjax.data.prepare REQUEST RESULT` does it in a process of its own, so that neither TFDS nor,
where it is installed, TensorFlow with its hold on the accelerator comes into the one that trains. TFDS
checks the registered sums and writes ArrayRecord; the columns are unpacked from there, so that a batch is
one gather from mapped memory with nothing to decode.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import pkgutil
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genjax.data import standin
from genjax.data.dataset import digest
from genjax.data.images import square
from genjax.data.progress import progress
from genjax.errors import DataError, nearest

HELD = ("validation", "test", "valid", "val", "eval", "dev")


@dataclasses.dataclass(frozen=True)
class Request:
    """What to prepare, and where.

    Attributes:
      name: as TFDS writes it: mnist, emnist/letters, mnist:3.0.1.
      archive: the folder of TFDS's own prepared files.
      columns: the folder that is to be made, whole or not at all.
      originals: the folder of raw files, one directory a dataset; None to download.
      size: side of the square that images are cropped and resized to; None to keep them.
      feature: the image or text feature to read; None for the one that is called so, or is alone.
      eval_split: the split to evaluate with, or several joined by "+"; None for the first of HELD there is.
      feature: the image or text feature to read; None for the one that is called so, or is alone.
    """

    name: str
    archive: str
    columns: str
    originals: str | None = None
    size: int | None = None
    eval_split: str | None = None
    feature: str | None = None


def prepare(request: Request) -> None:
    """Makes request.columns.

    Raises:
      DataError: unknown name, wrong sum, missing originals, features that are not image, label or text.
    """
    with standin.tensorflow():
        builder = _builder(request)
        try:
            _archive(builder, request)
        except standin.NeedsTensorFlow as error:
            raise _needs_tensorflow(request, error) from error
        target = Path(request.columns)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            (part / "columns.json").write_text(json.dumps(_unpack(builder, request, part), indent=1))
            part.chmod(0o755)  # mkdtemp's folders are for their maker alone; a cache may be shared
            os.replace(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _needs_tensorflow(request: Request, error: Exception) -> DataError:
    part = re.findall(r"tensorflow[\w.]*", str(error))[-1:]  # TFDS may have wrapped the name in words
    return DataError(
        f"tfds:{request.name} cannot be prepared without TensorFlow (its builder uses {part[0]})",
        "pip install 'genjax-lab[tfds]'; it is not needed again once the data is prepared",
    )


def _builder(request: Request) -> Any:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.registered import DatasetNotFoundError as missing

    def find() -> Any:
        return tfds.builder(request.name, data_dir=request.archive, file_format="array_record")

    try:
        try:
            return find()
        except missing:
            _whole_catalogue()
            return find()
    except missing as error:
        known = tfds.list_builders(with_community_datasets=False)
        word = request.name.split("/")[0].split(":")[0]
        raise DataError(
            f"TFDS has no dataset {request.name!r}{nearest(word, known)}",
            f"one of the {len(known)} names of its catalogue, as NAME, NAME/CONFIG or NAME:VERSION",
        ) from error
    except standin.NeedsTensorFlow as error:
        raise _needs_tensorflow(request, error) from error
    except (ValueError, AssertionError) as error:
        raise DataError(
            f"tfds:{request.name}: {error}", "see the dataset's page in the TFDS catalogue"
        ) from error


def _whole_catalogue() -> None:
    """Imports what is left of TFDS's builders: it stops by itself at the first that lacks a library."""
    import tensorflow_datasets as tfds

    for module in pkgutil.iter_modules(tfds.__path__):
        if module.ispkg and module.name not in ("core", "scripts", "testing", "rlds", "datasets"):
            with contextlib.suppress(ImportError, standin.NeedsTensorFlow):
                importlib.import_module(f"tensorflow_datasets.{module.name}")


def _archive(builder: Any, request: Request) -> None:
    """Prepares ArrayRecord files in request.archive, unless they are there."""
    import tensorflow_datasets as tfds

    if Path(builder.data_dir).exists():
        return
    folder = Path(request.originals).expanduser() / builder.name if request.originals else None
    infos = builder.url_infos or {}
    for url, info in infos.items():  # older entries have no name for the file: it is the address's last part
        if not info.filename:
            infos[url] = dataclasses.replace(info, filename=url.rsplit("/", 1)[-1])
    if folder is not None:
        _check_sums(folder, infos)
    refused: list[str] = []
    downloads = Path(request.archive) / "downloads" / builder.name
    try:
        with _network(refused, open_=folder is None):
            builder.download_and_prepare(
                download_dir=str(downloads),
                download_config=tfds.download.DownloadConfig(
                    manual_dir=folder if folder is not None and folder.is_dir() else None
                ),
                file_format="array_record",
            )
    except standin.NeedsTensorFlow:
        raise
    except Exception as error:
        if refused:
            raise _missing(builder, folder, infos, refused, error) from error
        raise DataError(
            f"TFDS could not prepare {request.name!r}: {type(error).__name__}: {error}",
            builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "see the dataset's page in the TFDS catalogue",
        ) from error
    shutil.rmtree(downloads, ignore_errors=True)  # what was unpacked from the originals


def _check_sums(folder: Path, infos: Mapping[str, Any]) -> None:
    for info in infos.values():
        file = folder / info.filename
        if not file.is_file():
            continue
        size, h = file.stat().st_size, hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                h.update(block)
        if size != int(info.size) or h.hexdigest() != info.checksum:
            what = f"{size:,} bytes instead of {int(info.size):,}"
            if size == int(info.size):
                what = f"sha256 {h.hexdigest()[:12]}... instead of {info.checksum[:12]}..."
            raise DataError(f"{file} is not the registered original: {what}", "fetch the file again")


class _network:
    """Notes the addresses that could not be had in `refused`; with open_ False, asks for none."""

    def __init__(self, refused: list[str], open_: bool):
        self.refused, self.open = refused, open_

    def __enter__(self) -> None:
        from tensorflow_datasets.core.download import downloader

        self.cls = downloader._Downloader
        self.original = original = self.cls._sync_download
        refused, open_ = self.refused, self.open

        def download(self: Any, url: str, *args: Any, **kwargs: Any) -> Any:
            try:
                if not open_:
                    raise ConnectionRefusedError(f"{url} is not among the originals")
                return original(self, url, *args, **kwargs)
            except Exception:
                refused.append(url)
                raise

        self.cls._sync_download = download

    def __exit__(self, *_: object) -> None:
        self.cls._sync_download = self.original


def _missing(
    builder: Any, folder: Path | None, infos: Mapping[str, Any], refused: list[str], error: Exception
) -> DataError:
    names = sorted({i.filename for i in infos.values()}) or [url.rsplit("/", 1)[-1] for url in refused]
    lost = [n for n in names if folder is None or not (folder / n).exists()]
    listed = ", ".join(lost[:16]) + (f" and {len(lost) - 16} more" if len(lost) > 16 else "")
    if folder is None:
        return DataError(
            f"tfds:{builder.name} could not be downloaded: {error}",
            f"without a network, put {listed} in a folder ORIGINALS/{builder.name} and set "
            "GENJAX_ORIGINALS or data.originals to ORIGINALS",
        )
    return DataError(
        f"tfds:{builder.name} lacks originals in {folder}: {listed}",
        f"put them there (from {', '.join(sorted(set(refused))[:4])}), or unset GENJAX_ORIGINALS to download",
    )


def _unpack(builder: Any, request: Request, into: Path) -> dict[str, Any]:
    """Writes the columns of both splits; returns what columns.json says of them."""
    splits = _splits(builder, request)
    image, label, text = _features(builder, request.feature)
    if image is None:
        label = None
    names = builder.info.features[label].names if label else None
    sums, shapes = [], []
    for part, split in splits.items():
        source = builder.as_data_source(split)
        if image:
            rows = progress(_rows(source), len(source), f"unpacking {part}")
            sums.append(_images(rows, len(source), image, label, into, part, request, shapes))
        else:
            texts = (_plain(row[text]) for row in progress(_rows(source), len(source), f"unpacking {part}"))
            sums.append(_text(texts, into / f"{part}.txt"))
    return {
        "name": str(builder.info.full_name),
        "kind": "image" if image else "text",
        "splits": splits,
        "classes": list(names) if names else [],
        "labels": builder.info.features[label].num_classes if label else 0,
        "digest": hashlib.sha256(" ".join(sums).encode()).hexdigest(),
    }


def _rows(source: Any) -> Iterator[Any]:
    """All rows in order, read by the thousand: one by one they take three times as long."""
    for first in range(0, len(source), 1000):
        yield from source.__getitems__(list(range(first, min(first + 1000, len(source)))))


def _splits(builder: Any, request: Request) -> dict[str, str]:
    known = list(builder.info.splits)
    wanted = request.eval_split
    missing = [name for name in ("train", *(wanted or "train").split("+")) if name not in known]
    if missing:
        lost = missing[0]
        raise DataError(f"tfds:{request.name} has no split {lost!r}", f"its splits: {', '.join(known)}")
    held = wanted or next((name for name in HELD if name in known), None)
    return {"train": "train", **({"eval": held} if held else {})}


def _features(builder: Any, wanted: str | None) -> tuple[str | None, str | None, str | None]:
    """(image, label, text): the names of the features that are read; None where there is none."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    kinds = {"image": tfds.features.Image, "text": tfds.features.Text, "label": tfds.features.ClassLabel}
    found = {kind: [k for k, f in features.items() if isinstance(f, cls)] for kind, cls in kinds.items()}
    choices = found["image"] + found["text"]
    if not choices or (wanted and wanted not in choices):
        raise DataError(
            f"tfds:{builder.name} has no image or text {wanted or ''}".rstrip()
            + f", but {', '.join(features)}",
            f"set data.feature to one of {', '.join(choices)}"
            if choices
            else "export what you need as files, and read them with folder: or text:",
        )
    if wanted:
        found = {kind: [k for k in names if kind == "label" or k == wanted] for kind, names in found.items()}
    picked = {kind: _pick(builder, kind, names) for kind, names in found.items()}
    return picked["image"], picked["label"], picked["text"]


def _pick(builder: Any, kind: str, names: list[str]) -> str | None:
    """The one that has the kind's own name, or is supervised, or is alone."""
    supervised = [k for k in builder.info.supervised_keys or () if isinstance(k, str)]
    favoured = [k for k in names if k.lower() == kind] + [k for k in supervised if k in names]
    if favoured or len(names) <= 1 or kind == "label":
        return next(iter(favoured + names), None)
    raise DataError(
        f"tfds:{builder.name} has several features of the kind {kind}: {', '.join(names)}",
        "set data.feature to the one to read",
    )


def _images(
    rows: Iterator[Any],
    count: int,
    image: str,
    label: str | None,
    into: Path,
    part: str,
    request: Request,
    shapes: list[tuple[int, ...]],
) -> str:
    pixels: np.ndarray | None = None
    labels = np.zeros(count, np.int32)
    for i, row in enumerate(rows):
        x = _sized(np.asarray(row[image]), request)
        if not shapes:
            shapes.append(x.shape)
        if x.shape != shapes[0]:
            raise DataError(
                f"tfds:{request.name}: image {i} of {part} is {x.shape}, where the first is {shapes[0]}",
                "set data.size to crop and resize all to one square",
            )
        if pixels is None:
            path = into / f"{part}-image.npy"
            pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *x.shape))
        pixels[i] = x
        if label:
            labels[i] = row[label]
    if pixels is None:
        raise DataError(f"tfds:{request.name} has no rows in {part}")
    pixels.flush()  # type: ignore[attr-defined]
    if label:
        np.save(into / f"{part}-label.npy", labels)
    return digest(pixels, labels)


def _sized(x: np.ndarray, request: Request) -> np.ndarray:
    if x.dtype != np.uint8:
        raise DataError(f"tfds:{request.name} has {x.dtype} images", "only 8-bit images can be read")
    if request.size is None or x.shape[:2] == (request.size, request.size):
        return x
    from PIL import Image

    picture = Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x)
    return np.asarray(square(picture, request.size)).reshape(request.size, request.size, x.shape[-1])


def _plain(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _text(texts: Iterator[str], path: Path) -> str:
    """One example after the other, a line end between them; where each ends, in bytes, stands beside it."""
    h, ends, at = hashlib.sha256(), [], 0
    with path.open("wb") as file:
        for i, text in enumerate(texts):
            raw = ("\n" if i else "").encode() + text.encode()
            file.write(raw)
            h.update(raw)
            ends.append(at := at + len(raw))
    np.save(path.with_name(f"{path.stem}-ends.npy"), np.array(ends, np.int64))
    return h.hexdigest()


def main(argv: list[str]) -> int:
    """The process: writes {} or {"error", "hint"} to the result's path."""
    request, result = Request(**json.loads(argv[0])), Path(argv[1])
    answer: dict[str, str] = {}
    try:
        prepare(request)
    except DataError as error:
        answer = {"error": error.message, "hint": error.hint}
    result.write_text(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
