"""Load the English prose of the language reference in the standard library (pydoc_data.topics).

The text differs slightly between Python versions, and so does the fingerprint. The last characters are held
out (data.eval_fraction). The documents of the source are the topics.
"""

from __future__ import annotations

from genjax.data.config import Config
from genjax.data.load import Loaded
from genjax.data.sources._text import load as load_text

INFO = "pydoc: the English prose of the language reference in the standard library (pydoc_data.topics)."


def load(config: Config, argument: str) -> Loaded:
    """Return all topics sorted by name; each is a document (data.documents='source')."""
    from pydoc_data.topics import topics

    return load_text(config, [topics[name] for name in sorted(topics)], info=INFO)
