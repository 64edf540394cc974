"""FLOPs against hand counts, likelihoods against exact sums, speed and memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from genjax.core import Aux, Element, Mean, Model, Phase, Spec, Variables
from genjax.errors import NonFiniteError
from genjax.evaluation import cost, flops
from genjax.evaluation.likelihood import likelihood


def floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def conv(x, kernel, stride=1, groups=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=numbers, feature_group_count=groups
    )


def test_products_and_their_gradients():
    product = 2 * 3 * 4 * 5
    matmul = lambda a, b: a @ b
    assert flops.count(matmul, floats(3, 4), floats(4, 5)).total == product
    assert flops.count(jax.jit(matmul), floats(3, 4), floats(4, 5)).total == product
    batched = lambda a, b: jnp.einsum("bij,bjk->bik", a, b)
    assert flops.count(batched, floats(6, 3, 4), floats(6, 4, 5)).total == 6 * product
    both = jax.grad(lambda a, b: matmul(a, b).sum(), (0, 1))
    # The forward product of a linear function is dead in its gradient's jaxpr, but is traced: 3 in all.
    assert flops.count(both, floats(3, 4), floats(4, 5)).matmul == 3 * product
    one = jax.grad(lambda a, b: matmul(a, b).sum())
    assert flops.count(one, floats(3, 4), floats(4, 5)).matmul == 2 * product


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_and_their_gradients(stride: int):
    x = floats(2, 8, 8, 4)
    kernel = floats(3, 3, 4, 16)
    forward = 2 * (2 * (8 // stride) ** 2 * 16) * (3 * 3 * 4)
    assert flops.count(conv, x, kernel, stride=stride).total == forward
    backward = jax.grad(lambda a, b: conv(a, b, stride).sum(), (0, 1))
    assert flops.count(backward, x, kernel).matmul == 3 * forward
    grouped = flops.count(conv, x, floats(3, 3, 1, 16), groups=4)
    assert grouped.total == 2 * (2 * 64 * 16) * 9
    depthwise = jax.grad(lambda a, b: conv(a, b, groups=4).sum(), (0, 1))
    assert flops.count(depthwise, x, floats(3, 3, 1, 16)).matmul == 3 * grouped.total


def test_loops_count_their_trips():
    product = 2 * 4**3
    x = floats(4, 4)
    scan = lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=7)[0]
    assert flops.count(scan, x).total == 7 * product
    nested = lambda x: jax.lax.scan(lambda c, _: (scan(c), None), x, None, length=3)[0]
    assert flops.count(nested, x).total == 21 * product
    both_ways = jax.grad(lambda x: scan(x).sum())
    assert flops.count(both_ways, x).matmul == 7 * 3 * product
    loop = lambda x: jax.lax.fori_loop(2, 9, lambda i, c: c @ c, x)
    assert flops.count(loop, x).matmul == 7 * product
    assert flops.count(loop, x).warnings == ()
    until = flops.count(lambda x: jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c @ c, x), x)
    assert until.matmul == product
    assert "unknown length" in until.warnings[0]


def test_branches_remat_custom_derivatives_and_shards():
    product = 2 * 4**3
    x = floats(4, 4)
    branch = lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x, x)
    assert flops.count(branch, x).matmul == 2 * product
    plain = lambda x, w: (jnp.sin(x @ w) @ w).sum()
    saved, again = (flops.count(jax.grad(f, 1), x, x).matmul for f in (plain, jax.checkpoint(plain)))
    assert saved == 5 * product
    assert again > saved

    @jax.custom_vjp
    def custom(x):
        return x @ x

    custom.defvjp(lambda x: (x @ x, x), lambda x, g: (g @ x,))
    assert flops.count(custom, x).total == product
    assert flops.count(jax.grad(lambda x: custom(x).sum()), x).matmul == 2 * product
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:4]), ("d",))
    shard = jax.shard_map(lambda x, w: x @ w, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"))
    assert flops.count(shard, floats(8, 4), x).total == 2 * 8 * 4 * 4


def test_elementwise_reductions_and_moves():
    x = floats(10, 6)
    assert flops.count(lambda x: jnp.exp(x) * x, x).total == 120
    assert flops.count(lambda x: x.sum(0), x).total == 60
    assert flops.count(lambda x: x.T.reshape(-1)[:5], x).total == 0
    assert flops.count(lambda x: jax.pure_callback(lambda a: a, x, x), x).warnings != ()


# --- a model of known cost and likelihood -----------------------------------------------------------

SPEC = Spec({"tokens": Element((5,), "int32", 10, "tokens", "target")}, 100)


def linear(every: int) -> Model:
    """Two phases of a 4 x 4 product on rows of 5 tokens; nats of row r: r's first token, on 4 units."""

    def init(key, batch, frozen):
        return Variables(params={"a": jnp.ones((4, 4)), "b": jnp.ones((4, 4))})

    def objective(player):
        def loss(v, batch, keys, *, step):
            x = batch["tokens"][:, 1:].astype(jnp.float32)
            y = x @ v.params[player]
            return Mean(y.sum(), batch["mask"].sum()), Aux(v.state)

        return loss

    def score(v, batch, keys):
        nats = batch["tokens"][:, 0].astype(jnp.float32)
        return Mean(jnp.where(batch["mask"] > 0, nats, jnp.nan), jnp.full(nats.shape, 4.0)), batch["carry"]

    def sample(v, keys, prompt, steps=2):
        x = jax.vmap(lambda key: jax.random.normal(key, (4,)))(keys)
        x = jax.lax.fori_loop(0, steps, lambda i, c: c @ v.params["a"], x)
        return {"tokens": x.astype(jnp.int32)}

    phases = {"main": Phase("a", objective("a")), "lazy": Phase("b", objective("b"), interval=every)}
    return Model(init, phases, sample=sample, likelihood=score)


def test_training_flops_average_over_the_cycle_of_plays():
    model = linear(every=4)
    variables = model.init(None, {}, {})
    product = 2 * 4 * 4
    got = cost.training_flops(model, variables, SPEC, batch=8)
    assert got.matmul == pytest.approx(2 * product * (1 + 1 / 4))
    shapes = jax.eval_shape(lambda: model.init(None, {}, {}))
    assert cost.training_flops(model, shapes, SPEC, batch=16).matmul == pytest.approx(got.matmul)
    assert cost.parameters(variables) == {"a": 16, "b": 16, "state": 0}


def test_flops_of_a_run_are_those_of_the_phases_that_it_makes():
    model = linear(every=4)
    variables = model.init(None, {}, {})
    step = cost.run_flops(model, variables, SPEC, 1, 8)
    # Step 0 makes both phases; steps 1 to 3 make the first only.
    each = cost.phase_flops(model, variables, SPEC, 8)
    assert step == each["main"].total + each["lazy"].total
    assert cost.run_flops(model, variables, SPEC, 6, 8) == 6 * each["main"].total + 2 * each["lazy"].total
    average = cost.training_flops(model, variables, SPEC, batch=8)
    assert cost.run_flops(model, variables, SPEC, 8, 8) == pytest.approx(average.total * 8 * 8)


def test_training_flops_count_the_work_of_frozen_stages():
    stage = linear(1)
    first = stage.init(None, {}, {})

    def init(key, batch, frozen):
        return Variables(params={"a": jnp.ones((4, 4))}, frozen=frozen)

    def objective(v, batch, keys, *, step):
        x = batch["tokens"][:, 1:].astype(jnp.float32)
        codes = jax.lax.stop_gradient(x @ v.frozen["first"].params["a"])
        return Mean((codes @ v.params["a"]).sum(), batch["mask"].sum()), Aux(v.state)

    model = Model(init, {"main": Phase("a", objective)})
    shapes = jax.eval_shape(lambda: model.init(None, {}, {"first": first}))
    product = 2 * 4 * 4
    got = cost.training_flops(model, shapes, SPEC, batch=8)
    # One product encodes; the player's forward product and its gradient are two.
    assert got.matmul == pytest.approx(3 * product)
    arrays = model.init(None, {}, {"first": first})
    assert cost.training_flops(model, arrays, SPEC, batch=8).total == got.total


def test_sampling_flops_grow_with_the_steps_and_speed_is_measured():
    model = linear(1)
    variables = model.init(None, {}, {})
    few, many = (cost.sampling_flops(model, variables, {}, {"steps": n}) for n in (2, 50))
    assert (few.matmul, many.matmul) == (2 * 32, 50 * 32)
    keys = jax.random.split(jax.random.key(0), 4)
    draw = jax.jit(lambda v, k, prompt: model.sample(v, k, prompt, steps=3))
    program = draw.lower(variables, keys, {}).compile()
    got = cost.speed(program, variables, keys, {}, repeats=3)
    assert got.batch == 4
    assert 0 < got.slowest <= got.per_second <= got.fastest
    assert got.memory is not None
    assert got.memory >= 2 * 64 + 4 * 16  # both weights, and the samples
    assert "compiler" in got.method


class Rows:
    """Tokens of a split; row i begins with token i."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n

    def stream(self, order: str, batch: int):
        return Batches(self.n, order, batch)


class Batches:
    def __init__(self, n: int, order: str, batch: int):
        self.n = n
        self.order = order
        self.batch = batch

    def __getitem__(self, i: int):
        here = np.arange(self.batch)
        at = (here * self.n // self.batch + i) % self.n if self.order == "lanes" else here + i * self.batch
        rows = np.minimum(at, self.n - 1)
        tokens = np.stack([rows] * 5, 1).astype(np.int32)
        return {"tokens": tokens, "mask": (at < self.n).astype(np.float32)}


@pytest.mark.parametrize("batch", [3, 5, 23, 100])
@pytest.mark.parametrize("lanes", [False, True])
def test_every_row_counts_once_whatever_the_batch(batch: int, lanes: bool):
    model = linear(1)
    if lanes:
        model = model.replace(carry=lambda batch: jnp.zeros(batch["mask"].shape[0]))
    totals = likelihood(model, model.init(None, {}, {}), Rows(23), batch=batch)
    assert totals.nats.sum() == 23 * 22 / 2
    assert totals.units.sum() == 23 * 4
    interval = totals.per_unit()
    assert interval.value == pytest.approx(11 / 4)
    assert totals.bits_per_unit().value == pytest.approx(11 / 4 / np.log(2))
    assert totals.perplexity().value == pytest.approx(np.exp(11 / 4))
    assert len(totals.nats) == (min(batch, 23) if lanes else -(-23 // min(batch, 23)) * min(batch, 23))


def test_a_carry_is_threaded_and_an_impossible_row_is_named():
    def score(v, batch, keys):
        seen = batch["carry"]
        return Mean(seen, jnp.ones_like(seen)), seen + 1

    model = linear(1).replace(carry=lambda batch: jnp.zeros(batch["mask"].shape[0]), likelihood=score)
    totals = likelihood(model, model.init(None, {}, {}), Rows(20), batch=4)
    assert totals.nats.tolist() == [0 + 1 + 2 + 3 + 4] * 4
    infinite = lambda v, batch, keys: (
        Mean(jnp.where(batch["tokens"][:, 0] == 7, jnp.inf, 1.0), jnp.ones(5)),
        {},
    )
    with pytest.raises(NonFiniteError, match="row 7"):
        likelihood(linear(1).replace(likelihood=infinite), model.init(None, {}, {}), Rows(20), batch=5)
