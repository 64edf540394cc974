"""Sample from each schema of the public JSON-Schema-Test-Suite with random weights, and validate each sample.

python -m experiments.constraints SUITE                      # the folder of the suite
python -m experiments.constraints SUITE --files type enum    # some of its files
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np

from genjax.core import Decoder, Element, Spec, Variables
from genjax.errors import ConfigError
from genjax.languages import schema as schemas
from genjax.models import gpt
from genjax.sampling import constraints
from genjax.sampling.autoregressive import generate
from genjax.sampling.constraints import Constraint

FILES = (
    *("type", "enum", "const", "properties", "required", "additionalProperties", "items", "prefixItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems"),
    *("maxItems", "minProperties", "maxProperties", "minContains", "maxContains", "multipleOf", "pattern"),
    *("format", "anyOf", "oneOf", "allOf", "ref", "not"),
)
ROOM = 40
"""Tokens beyond the fewest that a schema needs."""
LENGTHS = (48, 96, 192, 384, 768)
"""Lengths of samples: each is a program."""
PIECES = [
    '{"',
    '":',
    '": ',
    '", "',
    "[]",
    "{}",
    "true",
    "false",
    "null",
    "foo",
    "bar",
    '"foo"',
    "é",
    "10",
    ".5",
    "]}",
]
"""Tokens of several characters, beside the 256 bytes."""
TOKENS = [bytes([b]) for b in range(256)] + [piece.encode() for piece in PIECES]


@dataclasses.dataclass
class Count:
    """Count what became of the schemas of a file."""

    schemas: int = 0
    sampled: int = 0
    samples: int = 0
    invalid: int = 0
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


@functools.cache
def model(length: int) -> tuple[Decoder, Variables]:
    """Return a small transformer with random weights, enlarged so that its distributions are not uniform."""
    spec = Spec({"tokens": Element((length + 1,), "int32", len(TOKENS), "tokens", "target")})
    built = gpt.build(gpt.Config(layers=1, heads=2, width=32, position="rope"), spec, {})
    variables = jax.jit(lambda key: built.init(key, spec.example(1), {}))(jax.random.key(0))
    params = jax.tree.map(lambda x: x * 4 if x.ndim > 1 else x, variables.params)
    assert built.decoder is not None
    return built.decoder, variables.replace(params=params)


def padded(constraint: Constraint) -> Constraint:
    """Return the constraint in arrays of few sizes, so that few programs serve all schemas."""

    def size(n: int) -> int:
        return 4 ** int(np.ceil(np.log(n) / np.log(4)))

    def grow(x: jax.Array, n: int, value: Any) -> jax.Array:
        return jnp.pad(x, (0, n - x.shape[0]), constant_values=value)

    states, edges = size(constraint.distance.shape[0]), size(constraint.label.shape[0])
    return constraint.replace(  # type: ignore[attr-defined]
        first=grow(constraint.first, states + 1, constraint.first[-1]),
        label=grow(constraint.label, edges, len(TOKENS)),
        target=grow(constraint.target, edges, 0),
        distance=grow(constraint.distance, states, 0),
        last=grow(constraint.last, states, True),
        fewest=0,
        width=len(TOKENS),
        columns=len(TOKENS),
    )


def cases(path: Path) -> Iterator[tuple[str, Any, list[dict[str, Any]]]]:
    """Yield (description, schema, its tests) of a file."""
    for case in json.loads(path.read_text("utf-8")):
        yield case["description"], case["schema"], case["tests"]


def draw(constraint: Constraint, num: int, seed: int) -> list[bytes]:
    """Return samples of a random model."""
    length = next(n for n in LENGTHS if n >= constraint.fewest + ROOM)
    keys = jax.random.split(jax.random.key(seed), num)
    start = jnp.zeros((num, 1), jnp.int32)
    out = generate(*model(length), keys, start, length=length, constraint=padded(constraint), temperature=1.5)
    rows = zip(np.asarray(out.tokens), np.asarray(out.lengths), strict=True)
    return [b"".join(TOKENS[t] for t in row[:n]) for row, n in rows]


def check(schema: Any, texts: list[bytes]) -> list[str]:
    """Return what is wrong with the texts."""
    judge = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    wrong = []
    for text in texts:
        try:
            error = next(judge.iter_errors(json.loads(text)), None)
        except ValueError as failed:
            error = failed
        if error is not None:
            wrong.append(f"{text!r}: {str(error).splitlines()[0]}")
    return wrong


def reason(error: ConfigError) -> str:
    """Return what a refusal names, without the place."""
    first = str(error).splitlines()[0]
    if match := re.search(r"uses '([^']+)' at [^ ]+: (.*)", first):
        value = re.match(r"'[^']*'", match[2]) if match[1] in ("format", "$ref") else None
        return f"`{match[1]}`" + (f" {value[0]}" if value else "")
    return "nothing is valid" if "no JSON value" in first else first


def run(path: Path, num: int) -> Count:
    """Sample and validate for each schema of a file."""
    count = Count()
    for seed, (description, schema, tests) in enumerate(cases(path)):
        count.schemas += 1
        try:
            constraint = constraints.json_schema(schema, TOKENS)
        except ConfigError as error:
            why = reason(error)
            # A schema that accepts nothing must have no valid test.
            if why == "nothing is valid" and any(test["valid"] for test in tests):
                why = "no value found, though there are some"
            count.reasons[why] += 1
            continue
        wrong = check(schema, draw(constraint, num, seed))
        automaton = schemas.automaton(schema)
        for test in tests:
            text = json.dumps(test["data"], ensure_ascii=False).encode("utf-8", "surrogatepass")
            if not test["valid"] and automaton.matches(text):
                wrong.append(f"accepts {text!r}")
        count.sampled += 1
        count.samples += num
        count.invalid += len(wrong)
        for text in wrong:
            print(f"{path.stem}: {description}: {text}", file=sys.stderr, flush=True)
    return count


def main() -> int:
    """Print a table; return non-zero if a sample is not valid."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", type=Path)
    parser.add_argument("--files", nargs="*", default=FILES)
    parser.add_argument("--num", type=int, default=16, help="samples for each schema")
    args = parser.parse_args()
    total = Count()
    print("| file | schemas | sampled | samples | invalid | refused |")
    print("|---|---|---|---|---|---|")
    for name in args.files:
        count = run(args.suite / "tests" / "draft2020-12" / f"{name}.json", args.num)
        for field in ("schemas", "sampled", "samples", "invalid"):
            setattr(total, field, getattr(total, field) + getattr(count, field))
        total.reasons += count.reasons
        print(_row(name, count), flush=True)
    print(_row("all", dataclasses.replace(total, reasons=collections.Counter())))
    print(f"\nrefused: {sum(total.reasons.values())}")
    return bool(total.invalid)


def _row(name: str, count: Count) -> str:
    reasons = ", ".join(f"{n} {why}" for why, n in count.reasons.items())
    return f"| {name} | {count.schemas} | {count.sampled} | {count.samples} | {count.invalid} | {reasons} |"


if __name__ == "__main__":
    sys.exit(main())
