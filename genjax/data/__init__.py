"""Load datasets: sources, tokenizers and streams. `load(config)` is the entry point.

Heavy libraries (scikit-learn, TFDS, Grain) are imported only when a dataset needs them.
"""

from __future__ import annotations

from genjax.data import record
from genjax.data.config import Config
from genjax.data.dataset import RECORD, Dataset, Split
from genjax.data.describe import describe, preview
from genjax.data.load import load, names
from genjax.data.stream import Stream
from genjax.data.tokenizers import Tokenizer
from genjax.data.tokenizers import from_json as tokenizer_from_json

__all__ = [
    "RECORD",
    "Config",
    "Dataset",
    "Split",
    "Stream",
    "Tokenizer",
    "describe",
    "load",
    "names",
    "preview",
    "record",
    "tokenizer_from_json",
]
