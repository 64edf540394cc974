"""pydoc: the English prose of the language reference in the standard library (pydoc_data.topics).

The text differs a little between Python versions, and so does the fingerprint. The last tenth of the
characters (data.eval_fraction) is held out.
"""

from __future__ import annotations

from genjax.data.config import Config
from genjax.data.load import Loaded
from genjax.data.sources._text import divide, windows


def load(config: Config, argument: str) -> Loaded:
    """Windows of text: all topics in the alphabetic order of their names."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    return windows(config, *divide(text, config.eval_fraction), info=(__doc__ or "").split("\n")[0])
