"""Load captions of photographs in English, German and French (Elliott et al. 2016, arXiv:1605.00459).

`multi30k` translates English to German; `multi30k:de-en`, `multi30k:en-fr` ... translate between any two of
the languages. There are 29,000 pairs to train and 1,014 to validate; data.eval_split="test" evaluates with
test2016 (1,000). The originals are {train,val,test_2016_flickr}.{en,de,fr}.gz in ORIGINALS/multi30k. The
text is unchanged: cased, with punctuation, not tokenised.
"""

from __future__ import annotations

from genjax.data.config import Config
from genjax.data.load import Loaded
from genjax.data.sources import _originals, _pairs
from genjax.errors import DataError

LANGUAGES = ("en", "de", "fr")
SPLITS = {"validation": "val", "val": "val", "test": "test_2016_flickr"}


def load(config: Config, argument: str) -> Loaded:
    """Return pairs of captions: see genjax.data.sources._pairs.load for their rows.

    Raises:
      DataError: no such languages or split, or missing originals.
    """
    source, _, target = (argument or "en-de").partition("-")
    if source == target or {source, target} - set(LANGUAGES):
        raise DataError(
            f"multi30k has no pair {argument!r}",
            f"name two of {', '.join(LANGUAGES)}, such as multi30k:en-de",
        )
    held = _originals.choose(config, SPLITS)
    names = [f"{part}.{side}.gz" for part in ("train", held) for side in (source, target)]
    files = _originals.files(config, "multi30k", names)
    train = _pairs.parallel(*files[:2])
    test = _pairs.parallel(*files[2:])
    info = f"multi30k: captions of photographs, {source} to {target}, evaluated with {held}"
    return _pairs.load(config, train, test, info)
