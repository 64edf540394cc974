"""Read data as two domains of images: a condition that is translated to a target."""

from __future__ import annotations

from genjax.core import Spec
from genjax.errors import ConfigError


def pair(spec: Spec, model: str, hint: str) -> tuple[str, str]:
    """Return the names of the first condition and of the first target that are images of whole levels.

    Args:
      model: the name of the model that needs them, for the error message.
      hint: what to do without them.

    Raises:
      ConfigError: the data lacks one of them.
    """
    image = lambda name: len(spec[name].shape) == 3 and bool(spec[name].levels)
    found = [[n for n in names if image(n)] for names in (spec.conditions, spec.targets)]
    if not all(found):
        raise ConfigError(
            f"{model} needs an image as condition and one as target; the data has {sorted(spec.elements)}",
            hint,
        )
    return found[0][0], found[1][0]
