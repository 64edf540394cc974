"""Where a CPU build of torch stands beside the index's torchvision, transformers cannot import it: leave it out."""

import sys

sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]
