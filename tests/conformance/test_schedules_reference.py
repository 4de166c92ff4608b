"""The schedules agree with Keras, optax and PyTorch, to 1e-6.

Relative to the initial rate, because single precision loses all digits of a rate that goes to 0.
"""

from __future__ import annotations

import pytest

from keras_callbacks_plus.schedules import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    PolynomialDecay,
    Warmup,
    join,
)

RATE = 0.3
STEPS = [*range(41), 50, 99, 100, 101, 250, 1000]


def assert_agrees(schedule, reference, steps=STEPS):
    received = [schedule(step) for step in steps]
    expected = [float(reference(step)) for step in steps]
    assert received == pytest.approx(expected, rel=1e-6, abs=1e-6 * RATE)
    assert len(set(expected)) > 1, "a reference that never changes says nothing"


class TestKeras:
    """On the backend in use."""

    pytestmark = pytest.mark.backend

    @pytest.fixture
    def theirs(self):
        keras = pytest.importorskip("keras", reason="Keras is not installed")
        return keras.optimizers.schedules

    @pytest.mark.parametrize("alpha", [0.0, 0.1])
    def test_cosine(self, theirs, alpha):
        assert_agrees(CosineDecay(RATE, 100, alpha), theirs.CosineDecay(RATE, 100, alpha))

    @pytest.mark.parametrize("warmup_from", [0.0, 0.05])
    def test_warmup_and_cosine(self, theirs, warmup_from):
        reference = theirs.CosineDecay(
            warmup_from, 100, alpha=0.1, warmup_target=RATE, warmup_steps=10
        )
        assert_agrees(Warmup(CosineDecay(RATE, 100, 0.1), 10, warmup_from), reference)

    @pytest.mark.parametrize("staircase", [False, True])
    def test_exponential(self, theirs, staircase):
        arguments = (RATE, 7, 0.9, staircase)
        assert_agrees(ExponentialDecay(*arguments), theirs.ExponentialDecay(*arguments))

    @pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
    @pytest.mark.parametrize("cycle", [False, True])
    def test_polynomial(self, theirs, power, cycle):
        # Steps such as 21 / 7 land on either side of a whole number in single precision; with 8
        # they are exact, and the reference is the formula and not its rounding.
        arguments = (RATE, 8, 0.01, power, cycle)
        assert_agrees(PolynomialDecay(*arguments), theirs.PolynomialDecay(*arguments))

    def test_polynomial_has_the_same_defaults(self, theirs):
        assert_agrees(PolynomialDecay(RATE, 100), theirs.PolynomialDecay(RATE, 100))

    def test_linear_is_a_polynomial_of_power_one(self, theirs):
        assert_agrees(LinearDecay(RATE, 100), theirs.PolynomialDecay(RATE, 100, 0.0))

    def test_constants_joined_are_a_piecewise_constant(self, theirs):
        # Keras's boundary is the last step of the value before it, ours the first one after it.
        reference = theirs.PiecewiseConstantDecay([9, 19], [0.3, 0.2, 0.1])
        ours = join([Constant(0.3), Constant(0.2), Constant(0.1)], [10, 20])
        assert_agrees(ours, reference)


class TestOptax:
    @pytest.fixture
    def theirs(self):
        return pytest.importorskip("optax", reason="optax is not installed")

    def test_linear(self, theirs):
        assert_agrees(LinearDecay(RATE, 100, 0.01), theirs.linear_schedule(RATE, 0.01, 100))

    @pytest.mark.parametrize("alpha", [0.0, 0.1])
    def test_cosine(self, theirs, alpha):
        assert_agrees(CosineDecay(RATE, 100, alpha), theirs.cosine_decay_schedule(RATE, 100, alpha))

    def test_warmup_and_cosine(self, theirs):
        # decay_steps is the whole run there, and what comes after the warmup here.
        reference = theirs.warmup_cosine_decay_schedule(
            0.01, RATE, warmup_steps=10, decay_steps=110, end_value=0.03
        )
        assert_agrees(Warmup(CosineDecay(RATE, 100, 0.1), 10, 0.01), reference)

    def test_warmup_to_a_constant(self, theirs):
        reference = theirs.warmup_constant_schedule(0.01, RATE, 10)
        assert_agrees(Warmup(Constant(RATE), 10, 0.01), reference)

    @pytest.mark.parametrize("power", [0.5, 2.0])
    def test_polynomial(self, theirs, power):
        reference = theirs.polynomial_schedule(RATE, 0.01, power, 100)
        assert_agrees(PolynomialDecay(RATE, 100, 0.01, power), reference)

    @pytest.mark.parametrize("staircase", [False, True])
    def test_exponential(self, theirs, staircase):
        reference = theirs.exponential_decay(RATE, 8, 0.9, staircase=staircase)
        assert_agrees(ExponentialDecay(RATE, 8, 0.9, staircase), reference)

    def test_exponential_clipped_is_its_end_value(self, theirs):
        reference = theirs.exponential_decay(RATE, 8, 0.9, end_value=0.1)
        assert_agrees(ExponentialDecay(RATE, 8, 0.9).clip(0.1), reference)

    def test_join(self, theirs):
        reference = theirs.join_schedules(
            [
                theirs.linear_schedule(0.0, RATE, 10),
                theirs.constant_schedule(RATE),
                theirs.cosine_decay_schedule(RATE, 60),
            ],
            [10, 30],
        )
        ours = join([Warmup(Constant(RATE), 10), Constant(RATE), CosineDecay(RATE, 60)], [10, 30])
        assert_agrees(ours, reference)


class TestTorch:
    @pytest.fixture
    def rates(self):
        """Runs one of PyTorch's schedulers, and returns its rate of every step."""
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")

        def run(make, steps=251):
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
            scheduler = make(torch.optim.lr_scheduler, optimizer)
            seen = []
            for _ in range(steps):
                seen.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
            return seen

        return run

    def assert_agrees(self, schedule, seen):
        assert_agrees(schedule, seen.__getitem__, range(len(seen)))

    def test_linear(self, rates):
        seen = rates(lambda s, o: s.LinearLR(o, 1.0, 0.1, total_iters=100))
        self.assert_agrees(LinearDecay(RATE, 100, 0.03), seen)

    def test_warmup_linear(self, rates):
        seen = rates(lambda s, o: s.LinearLR(o, 0.1, 1.0, total_iters=10))
        self.assert_agrees(Warmup(Constant(RATE), 10, 0.03), seen)

    def test_warmup_constant(self, rates):
        seen = rates(lambda s, o: s.ConstantLR(o, 0.1, total_iters=10))
        self.assert_agrees(Warmup(Constant(RATE), 10, 0.03, shape="constant"), seen)

    def test_cosine(self, rates):
        # Behind T_max theirs goes up again, so it is compared as far as that.
        seen = rates(lambda s, o: s.CosineAnnealingLR(o, 250, eta_min=0.03))
        self.assert_agrees(CosineDecay(RATE, 250, 0.1), seen)

    @pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
    def test_polynomial(self, rates, power):
        seen = rates(lambda s, o: s.PolynomialLR(o, 100, power))
        self.assert_agrees(PolynomialDecay(RATE, 100, 0.0, power), seen)

    def test_exponential(self, rates):
        seen = rates(lambda s, o: s.ExponentialLR(o, 0.99))
        self.assert_agrees(ExponentialDecay(RATE, 1, 0.99), seen)

    def test_exponential_in_stairs(self, rates):
        seen = rates(lambda s, o: s.StepLR(o, 30, 0.5))
        self.assert_agrees(ExponentialDecay(RATE, 30, 0.5, staircase=True), seen)

    def test_warmup_and_decay_in_sequence(self, rates):
        seen = rates(
            lambda s, o: s.SequentialLR(
                o,
                [s.LinearLR(o, 0.1, 1.0, total_iters=10), s.ExponentialLR(o, 0.9)],
                milestones=[10],
            )
        )
        self.assert_agrees(Warmup(ExponentialDecay(RATE, 1, 0.9), 10, 0.03), seen)


class TestFormulaOnTensors:
    """Inside an optimizer the same formula runs on a tensor, in single precision."""

    pytestmark = pytest.mark.backend

    SCHEDULES = (
        Constant(RATE),
        LinearDecay(RATE, 100, 0.01),
        PolynomialDecay(RATE, 100, 0.01, 0.5),
        PolynomialDecay(RATE, 64, 0.01, 2.0, cycle=True),
        ExponentialDecay(RATE, 8, 0.9),
        ExponentialDecay(RATE, 8, 0.9, staircase=True),
        CosineDecay(RATE, 100, 0.1),
        Warmup(CosineDecay(RATE, 100), 10),
        Warmup(LinearDecay(RATE, 100), 10, 0.01, shape="cosine"),
        Warmup(LinearDecay(RATE, 100), 10, 0.01, shape="exponential"),
        Warmup(Constant(RATE), 10, 0.01, shape="constant"),
        Warmup(Constant(RATE), 0),
        join([Warmup(Constant(RATE), 10), Constant(RATE), CosineDecay(RATE, 60)], [10, 30]),
        CosineDecay(RATE, 100) * 0.5,
        CosineDecay(RATE, 100).clip(0.1, 0.2),
    )

    @pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
    @pytest.mark.parametrize("dtype", ["int32", "int64"])
    def test_agrees_with_the_number(self, schedule, dtype):
        keras = pytest.importorskip("keras", reason="Keras is not installed")
        from keras_callbacks_plus._keras.keras_schedule import as_keras_schedule

        if dtype == "int64" and keras.backend.backend() == "jax":
            pytest.skip("JAX has no int64 by default")
        inside = as_keras_schedule(schedule)
        for step in STEPS:
            rate = inside(keras.ops.convert_to_tensor(step, dtype))
            assert keras.backend.standardize_dtype(rate.dtype) == "float32"
            assert float(rate) == pytest.approx(schedule(step), rel=2e-6, abs=1e-6 * RATE)
