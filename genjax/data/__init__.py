"""The data room: sources, tokenizers and streams. `load(config)` is the way in."""

from __future__ import annotations

from genjax.data.config import Config
from genjax.data.dataset import Dataset, Split, spec_from_json, spec_to_json
from genjax.data.load import load, names
from genjax.data.stream import Stream

__all__ = ["Config", "Dataset", "Split", "Stream", "load", "names", "spec_from_json", "spec_to_json"]
