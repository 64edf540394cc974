"""The data room: sources, tokenizers and streams. `load(config)` is the way in.

Nothing heavy (scikit-learn, TFDS, Grain) is imported before a dataset needs it.
"""

from __future__ import annotations

from genjax.data.config import Config
from genjax.data.dataset import Dataset, Split
from genjax.data.describe import describe, preview
from genjax.data.load import load, names
from genjax.data.stream import Stream
from genjax.data.tokenizers import Tokenizer
from genjax.data.tokenizers import from_json as tokenizer_from_json

__all__ = [
    "Config",
    "Dataset",
    "Split",
    "Stream",
    "Tokenizer",
    "describe",
    "load",
    "names",
    "preview",
    "tokenizer_from_json",
]
