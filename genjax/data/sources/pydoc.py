"""pydoc: the English prose of the language reference in the standard library (pydoc_data.topics).

The text differs a little between Python versions, and so does the fingerprint. The last tenth of the
characters (data.eval_fraction) is held out. Its own documents are the topics.
"""

from __future__ import annotations

from genjax.data.config import Config
from genjax.data.load import Loaded
from genjax.data.sources._text import load as load_text


def load(config: Config, argument: str) -> Loaded:
    """All topics in the alphabetic order of their names; each is a document (data.documents='source')."""
    from pydoc_data.topics import topics

    return load_text(config, [topics[name] for name in sorted(topics)], info=(__doc__ or "").split("\n")[0])
