"""Count floating-point operations of a function on its jaxpr: a loop's body times its trips.

The cost analysis of a compiled program counts a loop's body once, so that a sampler of 1,000 steps looks as
cheap as one; and it depends on the compiler of one backend. The jaxpr is the same everywhere.

Conventions, stated in every score:
- a multiply-add is 2; a matrix product M x K x N is 2 M K N; a convolution is 2 x output elements x
  kernel elements per output channel x input channels per group (padding counted as data);
- an elementwise operation on n elements, of whatever kind (exp as much as add), is n; a reduction over n
  elements is n; comparisons and selections count, and so does drawing random bits (1 per word);
- moving data (reshape, gather, slice, convert, broadcast, concatenate) is 0; a sort of n is n log2 n;
- scan: body x length. cond: its most expensive branch. while: its body x trips if the trip count shows in
  the jaxpr (a fori_loop with constant bounds), else its body once and a warning;
- the inside of a custom derivative, remat, jit or a shard_map counts (a shard_map's body x devices, so
  that the number is that of all devices together).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core as jex

CONVENTION = "jaxpr, multiply-add=2, elementwise=1"


class Flops(NamedTuple):
    """Hold counts of floating-point operations; `warnings` names what could not be counted."""

    total: float
    matmul: float
    elementwise: float
    warnings: tuple[str, ...] = ()

    def __add__(self, other: Flops) -> Flops:  # type: ignore[override]
        total, matmul, rest = (a + b for a, b in zip(self[:3], other[:3], strict=True))
        return Flops(total, matmul, rest, tuple(dict.fromkeys(self.warnings + other.warnings)))

    def times(self, n: float) -> Flops:
        """Return n times these counts."""
        return Flops(self.total * n, self.matmul * n, self.elementwise * n, self.warnings)


ZERO = Flops(0.0, 0.0, 0.0)

# Primitives that move data or mark values: no arithmetic.
_FREE = re.compile(
    r"broadcast_in_dim|reshape|transpose|squeeze|expand_dims|(dynamic_)?slice|dynamic_update_slice|gather|pad"
    r"|rev|concatenate|split|iota|copy(_p)?|(bitcast_)?convert_element_type|reduce_precision|real|imag|stop_gradient"
    r"|device_put|sharding_constraint|layout_constraint|mesh_cast|reshard|optimization_barrier|pvary|axis_index"
    r"|random_(un)?wrap|name|create_token|empty2?|debug_callback|all_gather|all_to_all|ppermute|pbroadcast"
)
_REDUCTION = re.compile(
    r"reduce(_\w+)?|arg(max|min)|cum(sum|prod|max|min|logsumexp)|psum(_invariant)?|p(max|min)"
)


def count(function: Callable[..., Any], *args: Any, **static: Any) -> Flops:
    """Count the FLOPs of one call. `args` may be arrays or jax.ShapeDtypeStruct: nothing is run or compiled.

    Args:
      static: keyword arguments that are not traced.
    """
    return of_jaxpr(jax.make_jaxpr(lambda *a: function(*a, **static))(*args).jaxpr)


def of_jaxpr(jaxpr: Any) -> Flops:
    """Count the FLOPs of a jaxpr."""
    total = ZERO
    for equation in jaxpr.eqns:
        total = total + _equation(equation)
    return total


def _equation(eqn: Any) -> Flops:
    """Count the FLOPs of one equation of a jaxpr."""
    name = eqn.primitive.name
    params = eqn.params
    if name == "dot_general":
        return _dot(eqn)
    if name == "conv_general_dilated":
        return _conv(eqn)
    if name == "scan":
        return of_jaxpr(params["jaxpr"].jaxpr).times(params["length"])
    if name == "cond":
        branches = [of_jaxpr(b.jaxpr) for b in params["branches"]]
        return max(branches, key=lambda f: f.total)
    if name == "while":
        return _while(eqn)
    if _opaque(name):
        return Flops(
            0.0, 0.0, 0.0, (f"a call of {name} was not counted: its arithmetic is not in the jaxpr",)
        )
    inner = _inner(params)
    if inner is not None:
        return of_jaxpr(inner).times(_copies(name, params))
    if _FREE.fullmatch(name):
        return ZERO
    if name == "sort" or name == "top_k":
        n = eqn.invars[0].aval
        width = n.shape[params.get("dimension", -1)] if n.shape else 1
        return _plain(n.size * max(math.log2(width), 1) if width else 0)
    if _REDUCTION.fullmatch(name):
        return _plain(sum(v.aval.size for v in eqn.invars[:1]))
    if name.startswith("scatter"):
        return _plain(0 if name == "scatter" else eqn.invars[2].aval.size)
    if name in _LINALG:
        return _linalg(eqn)
    return _plain(max((_size(v) for v in eqn.outvars), default=0))


def _plain(n: float) -> Flops:
    return Flops(float(n), 0.0, float(n))


def _size(var: Any) -> int:
    shape = getattr(var.aval, "shape", ())
    return int(np.prod(shape)) if shape else 1


def _inner(params: dict[str, Any]) -> Any:
    """Return the jaxpr that an equation calls, or None. A custom derivative's rules are not called."""
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in params:
            called = params[key]
            return getattr(called, "jaxpr", called)  # a closed jaxpr holds one
    return None


def _copies(name: str, params: dict[str, Any]) -> int:
    """Return the runs of a called jaxpr: one per device of a shard_map, one per program of a Pallas grid."""
    if name == "shard_map":
        return params["mesh"].size
    if name == "pallas_call":
        return math.prod(n for n in params["grid_mapping"].grid if isinstance(n, int))
    return 1


def _opaque(name: str) -> bool:
    """Return whether a primitive hides its arithmetic in a library or on the host."""
    return name in ("ffi_call", "custom_call", "pure_callback", "io_callback") or "attention" in name


def _dot(eqn: Any) -> Flops:
    (contract, _), _ = eqn.params["dimension_numbers"]
    lhs = eqn.invars[0].aval
    out = eqn.outvars[0].aval
    n = 2.0 * out.size * math.prod(lhs.shape[d] for d in contract)
    return Flops(n, n, 0.0)


def _conv(eqn: Any) -> Flops:
    kernel = eqn.invars[1].aval
    out = eqn.outvars[0].aval
    spec = eqn.params["dimension_numbers"].rhs_spec  # (out channels, in channels / groups, *space)
    per_output = math.prod(kernel.shape[d] for d in spec[1:])
    n = 2.0 * out.size * per_output
    # Gradients with respect to a strided convolution's input dilate: the zeros between are not multiplied.
    n /= math.prod(eqn.params["lhs_dilation"])
    return Flops(n, n, 0.0)


def _while(eqn: Any) -> Flops:
    body = of_jaxpr(eqn.params["body_jaxpr"].jaxpr) + of_jaxpr(eqn.params["cond_jaxpr"].jaxpr)
    trips = _trips(eqn)
    if trips is None:
        where = f"a while loop of unknown length was counted once ({body.total:.3g} FLOPs a trip)"
        return body._replace(warnings=(*body.warnings, where))
    return body.times(trips)


def _trips(eqn: Any) -> int | None:
    """Return the trips of a loop `i < n` with constant bounds and i + 1 in its body; None for other loops."""
    params = eqn.params
    cond = params["cond_jaxpr"].jaxpr
    if len(cond.eqns) != 1 or cond.eqns[0].primitive.name != "lt":
        return None
    left, right = cond.eqns[0].invars
    consts = params["cond_nconsts"]
    body_consts = params["body_nconsts"]
    # The operands of a while are the constants of its condition, those of its body, and the carry.
    carried = eqn.invars[consts + body_consts :]

    def value(var: Any) -> int | None:
        if isinstance(var, jex.Literal):
            return int(var.val)
        at = cond.invars.index(var)
        outer = eqn.invars[at] if at < consts else carried[at - consts]
        return int(outer.val) if isinstance(outer, jex.Literal) else None

    first = value(left)
    last = value(right)
    if first is None or last is None or isinstance(left, jex.Literal):
        return None
    at = cond.invars.index(left) - consts
    body = params["body_jaxpr"].jaxpr
    counter = body.invars[body_consts + at]
    out = body.outvars[at]
    steps = [e for e in body.eqns if e.outvars[0] is out and e.primitive.name == "add"]
    one = steps and steps[0].invars[0] is counter and isinstance(steps[0].invars[1], jex.Literal)
    if not one:
        return None
    step = int(steps[0].invars[1].val)
    return max(0, -(-(last - first) // step)) if step > 0 else None


_LINALG = {"cholesky": 1 / 3, "triangular_solve": 1.0, "eigh": 9.0, "svd": 20.0, "lu": 2 / 3, "qr": 4 / 3}


def _linalg(eqn: Any) -> Flops:
    """Count textbook leading terms (Golub and Van Loan): c n^3 per matrix, c n^2 m for triangular solves."""
    shape = eqn.invars[-1].aval.shape
    n = eqn.invars[0].aval.shape[-1]
    each = _LINALG[eqn.primitive.name] * n * n * (shape[-1] if len(shape) > 1 else n)
    return _plain(each * math.prod(shape[:-2]))
