"""Run the benchmarks of this folder, each in a process of its own, and write their tables to one file.

python -m experiments.benchmarks                    # all (make bench)
python -m experiments.benchmarks gpt unet           # some
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LATER = ("metrics",)
"""Long benchmarks, which run last."""


def names() -> list[str]:
    """List the modules of this folder that have a `main`, in the order in which they run."""
    files = [
        p.stem for p in sorted(HERE.glob("*.py")) if "def main(" in p.read_text() and p.stem != "__main__"
    ]
    return sorted(files, key=lambda name: name in LATER)


def main() -> int:
    """Run the chosen benchmarks one after another; return non-zero if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(names())}; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs") / "benchmarks.md")
    args = parser.parse_args()
    if unknown := [n for n in args.names if n not in names()]:
        parser.error(f"no benchmark {unknown[0]!r}; there are: {', '.join(names())}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    failed = []
    with args.out.open("w") as out:
        out.write(
            f"Machine: {platform.machine()}, {platform.system()}, Python {platform.python_version()}.\n"
        )
        for name in args.names or names():
            print(f"== {name}", flush=True)
            command = [sys.executable, "-m", f"experiments.benchmarks.{name}"]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            failed += [name] if done.returncode else []
            print(done.stdout, flush=True)
            out.write(f"\n    python -m experiments.benchmarks.{name}\n\n{done.stdout}")
            out.flush()
    print(args.out)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
