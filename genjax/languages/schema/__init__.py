"""Turn a JSON schema into an automaton: every text that it accepts is JSON that validates.

`reading` parses and refuses, `places` sets which values are considered, `compiler` makes the automaton, from
the parts in `numbers`, `strings` and `containers`.
"""

from __future__ import annotations

from genjax.languages.schema.compiler import automaton
from genjax.languages.schema.reading import parse

__all__ = ["automaton", "parse"]
