"""Beside a CPU build of torch the index's torchvision cannot be imported: transformers is to leave it out."""

import sys

sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]
