"""Features of a signal: the magnitudes of its Fourier transform."""

from __future__ import annotations

import numpy as np

from genjax.evaluation import Features


def build(argument, request):
    """Return the extractor; it has no argument."""

    def embed(waves):
        return np.abs(np.fft.rfft(waves, axis=1)).astype(np.float32)

    return Features(embed, None, "spectrum", "magnitudes of the spectrum", element=request.element)
