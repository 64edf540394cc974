"""Prepare a dataset of the TFDS catalogue once: download it, verify it, and unpack it into columns on disk.

`python -m genjax.data.prepare REQUEST RESULT` runs in a process of its own, so that the training process
imports neither TFDS nor TensorFlow (which, if installed, would claim the accelerator). TFDS verifies the
registered checksums and writes ArrayRecord files. The columns are unpacked from these, so that reading a
batch is one gather from mapped memory without decoding.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import pkgutil
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genjax import files
from genjax.data import standin
from genjax.data.sources import _unpack
from genjax.errors import DataError, nearest


@dataclasses.dataclass(frozen=True)
class Request:
    """Describe the dataset to prepare and the folders to use.

    Attributes:
      name: as TFDS writes it: mnist, emnist/letters, mnist:3.0.1.
      archive: the folder of the files that TFDS prepares.
      columns: the folder to create; it appears only when it is complete.
      originals: the folder of raw files, one directory for each dataset; None to download them.
      size: side in pixels of the square to which images are cropped and resized; None to keep them.
      eval_split: the evaluation split, or several joined by "+"; None for a split with a usual name.
      feature: the image or text feature to read; None for the one with the usual name, or the only one.
    """

    name: str
    archive: str
    columns: str
    originals: str | None = None
    size: int | None = None
    eval_split: str | None = None
    feature: str | None = None


def prepare(request: Request) -> None:
    """Create the folder request.columns.

    Raises:
      DataError: an unknown name, a wrong checksum, missing originals, or no image or text feature.
    """
    with standin.tensorflow():
        builder = _builder(request)
        try:
            _archive(builder, request)
        except standin.NeedsTensorFlow as error:
            raise _needs_tensorflow(request, error) from error
        with files.replacing_folder(request.columns) as part:
            files.write_json(part / "columns.json", _unpack.unpack(builder, request, part))


def _needs_tensorflow(request: Request, error: Exception) -> DataError:
    part = re.findall(r"tensorflow[\w.]*", str(error))[-1:]  # TFDS may have put the name into a sentence
    return DataError(
        f"tfds:{request.name} cannot be prepared without TensorFlow (its builder uses {part[0]})",
        "pip install 'genjax-lab[tfds]'; prepared data is read without it",
    )


def _builder(request: Request) -> Any:
    """Return the TFDS builder of the dataset."""
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
            f"use one of the {len(known)} names of its catalogue, as NAME, NAME/CONFIG or NAME:VERSION",
        ) from error
    except standin.NeedsTensorFlow as error:
        raise _needs_tensorflow(request, error) from error
    except (ValueError, AssertionError) as error:
        raise DataError(
            f"tfds:{request.name}: {error}", "see the dataset's page in the TFDS catalogue"
        ) from error


def _whole_catalogue() -> None:
    """Import all builders of TFDS, which itself stops at the first one that lacks a library."""
    import tensorflow_datasets as tfds

    for module in pkgutil.iter_modules(tfds.__path__):
        if module.ispkg and module.name not in ("core", "scripts", "testing", "rlds", "datasets"):
            with contextlib.suppress(ImportError, standin.NeedsTensorFlow):
                importlib.import_module(f"tensorflow_datasets.{module.name}")


def _archive(builder: Any, request: Request) -> None:
    """Prepare ArrayRecord files in request.archive, unless they exist."""
    import tensorflow_datasets as tfds

    if Path(builder.data_dir).exists():
        return
    folder = Path(request.originals).expanduser() / builder.name if request.originals else None
    infos = builder.url_infos or {}
    for url, info in infos.items():
        # Older entries do not name the file: its name is the last part of the address.
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
    shutil.rmtree(downloads, ignore_errors=True)  # copies, and what was extracted from them


def _check_sums(folder: Path, infos: Mapping[str, Any]) -> None:
    """Verify the size and checksum of every original that is present."""
    for info in infos.values():
        file = folder / info.filename
        if not file.is_file():
            continue
        size = file.stat().st_size
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if size != int(info.size) or found != info.checksum:
            what = f"{size:,} bytes instead of {int(info.size):,}"
            if size == int(info.size):
                what = f"sha256 {found[:12]}... instead of {info.checksum[:12]}..."
            raise DataError(f"{file} is not the registered original: {what}", "download the file again")


class _network:
    """Collect addresses that could not be downloaded in `refused`; with open_=False, download nothing."""

    def __init__(self, refused: list[str], open_: bool):
        self.refused = refused
        self.open = open_

    def __enter__(self) -> None:
        from tensorflow_datasets.core.download import downloader

        self.cls = downloader._Downloader
        self.original = original = self.cls._sync_download
        refused = self.refused
        open_ = self.open

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
    """Return the error that lists the files which are neither present nor downloadable."""
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


def main(argv: list[str]) -> int:
    """Prepare the request in argv[0] (JSON) and write {} or {"error", "hint"} to the path in argv[1]."""
    request = Request(**json.loads(argv[0]))
    answer: dict[str, str] = {}
    try:
        prepare(request)
    except DataError as error:
        answer = {"error": error.message, "hint": error.hint}
    files.write_json(argv[1], answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
