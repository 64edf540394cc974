"""Stand in for TensorFlow while a TFDS builder prepares a dataset.

Most builders of the catalogue use only TensorFlow's file functions and image encoders. This module implements
these with the standard library and Pillow. Only TFDS sees them: no module `tensorflow` is imported.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.resources.abc
import importlib.util
import io
import os
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


class NeedsTensorFlow(Exception):
    """Report that a builder uses a part of TensorFlow which the stand-in does not have."""


class _Part(types.ModuleType):
    """Present a part of TensorFlow; names that are not set raise NeedsTensorFlow."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NeedsTensorFlow(f"{self.__name__}.{name}")


def _part(name: str, **members: Any) -> _Part:
    part = _Part(name)
    part.__dict__.update(members)
    return part


def _encoder(form: str, **options: Any) -> Callable[..., Any]:
    """Return a function like tf.io.encode_png for an image format of Pillow."""

    def encode(image: np.ndarray, *_: Any, **__: Any) -> Any:
        from PIL import Image

        buffer = io.BytesIO()
        image = np.asarray(image)
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        picture.save(buffer, form, **options)
        return types.SimpleNamespace(numpy=buffer.getvalue)

    return encode


def _tensorflow() -> _Part:
    """Return the stand-in."""
    gfile = _part(
        "tensorflow.io.gfile",
        GFile=lambda path, mode="r": open(os.fspath(path), mode),  # noqa: SIM115 (the caller closes it)
        exists=os.path.exists,
        isdir=os.path.isdir,
        listdir=os.listdir,
        glob=lambda pattern: sorted(glob.glob(os.fspath(pattern))),
        walk=os.walk,
        makedirs=lambda path: os.makedirs(path, exist_ok=True),
        copy=lambda source, target, overwrite=False: shutil.copyfile(source, target),
    )

    def text(value: Any, encoding: str = "utf-8") -> str:
        return value.decode(encoding) if isinstance(value, bytes) else str(value)

    def raw(value: Any, encoding: str = "utf-8") -> bytes:
        return value if isinstance(value, bytes) else str(value).encode(encoding)

    jpeg = _encoder("JPEG", quality=95)
    # The archive is read only once: weak compression saves most of the encoding time.
    png = _encoder("PNG", compress_level=1)
    dtypes = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")
    return _part(
        "tensorflow",
        __version__="2.99.0",
        executing_eagerly=lambda: True,
        io=_part("tensorflow.io", gfile=gfile, encode_jpeg=jpeg, encode_png=png),
        image=_part("tensorflow.image", encode_jpeg=jpeg, encode_png=png),
        compat=_part(
            "tensorflow.compat",
            as_text=text,
            as_str=text,
            as_str_any=text,
            as_bytes=raw,
            v1=_part("tensorflow.compat.v1", io=_part("tensorflow.compat.v1.io", gfile=gfile)),
        ),
        string=np.str_,
        bool=np.bool_,
        **{dtype: np.dtype(dtype).type for dtype in dtypes},
    )


@contextlib.contextmanager
def tensorflow() -> Iterator[None]:
    """Give TFDS the stand-in within the block, or the real TensorFlow if it is installed.

    Raises:
      NeedsTensorFlow: a builder uses a part that the stand-in does not have.
    """
    if importlib.util.find_spec("importlib_resources") is None:
        # TFDS imports the backport of this module of the standard library.
        sys.modules["importlib_resources"] = importlib.resources
    if importlib.util.find_spec("tensorflow") is not None:
        yield
        return
    from tensorflow_datasets.core.utils import lazy_imports_utils

    lazy = lazy_imports_utils.tensorflow.__dict__
    lazy["_module"] = _tensorflow()
    try:
        yield
    finally:
        lazy.pop("_module", None)
