"""`LearningRateScheduler` in `fit`: the rate of every step, on the backend in use."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus._keras.keras_schedule import as_keras_schedule
from keras_callbacks_plus.errors import InvalidArgumentError, UnsupportedLearningRateError
from keras_callbacks_plus.schedules import Constant, CosineDecay, LinearDecay, Warmup

pytestmark = pytest.mark.backend

SCHEDULE = Warmup(CosineDecay(0.2, 12, 0.1), 3, 0.02)
BATCHES = 4
X = np.linspace(-1.0, 1.0, 8 * 3, dtype="float32").reshape(8, 3)
Y = (X @ np.array([[1.0], [-2.0], [0.5]], dtype="float32")) + 0.25


def make_model(optimizer=None, **compile_arguments):
    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(optimizer or keras.optimizers.SGD(0.5), loss="mse", **compile_arguments)
    return model


def fit(model, *callbacks, epochs=2, **arguments):
    return model.fit(
        X,
        Y,
        batch_size=2,
        epochs=epochs,
        shuffle=False,
        callbacks=list(callbacks),
        **{"verbose": 0, **arguments},
    ).history


class Observe(keras.callbacks.Callback):
    """Reads the rate and the step the public, slow way, at the ends of batches."""

    def __init__(self):
        super().__init__()
        self.rates = []
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        optimizer = self.model.optimizer
        self.rates.append(float(keras.ops.convert_to_tensor(optimizer.learning_rate)))
        self.steps.append(int(keras.ops.convert_to_tensor(optimizer.iterations)))


class ObserveAtBegin(Observe):
    """Reads when the batch begins, and so puts JAX's values back before the step."""

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        pass


def float32(values):
    return [float(np.float32(value)) for value in values]


def weights_of(model):
    return np.concatenate([w.ravel() for w in model.get_weights()])


def trained_by_hand(rates, optimizer=None):
    """The weights after one step for each rate, set before `train_on_batch`."""
    model = make_model(optimizer)
    for index, rate in enumerate(rates):
        batch = slice(2 * (index % BATCHES), 2 * (index % BATCHES) + 2)
        model.optimizer.learning_rate.assign(rate)
        model.train_on_batch(X[batch], Y[batch])
    return weights_of(model)


def expected_rates(steps, schedule=SCHEDULE):
    return float32(schedule(step) for step in range(steps))


class TestEachStepHasItsRate:
    @pytest.mark.parametrize("observer", [Observe, ObserveAtBegin])
    def test_over_epochs_and_a_second_fit(self, observer):
        model, seen = make_model(), observer()
        callback = kcp.LearningRateScheduler(SCHEDULE)
        fit(model, callback, seen)
        fit(model, callback, seen, epochs=1)
        assert seen.rates == expected_rates(3 * BATCHES)

    def test_a_new_callback_on_a_trained_model_goes_on_where_the_optimizer_is(self):
        model, seen = make_model(), Observe()
        fit(model, kcp.LearningRateScheduler(SCHEDULE), seen)
        fit(model, kcp.LearningRateScheduler(SCHEDULE), seen, initial_epoch=2, epochs=3)
        assert seen.rates == expected_rates(3 * BATCHES)

    @pytest.mark.parametrize("observers", [[], [Observe], [ObserveAtBegin]])
    def test_the_weights_are_those_of_steps_taken_with_these_rates(self, observers):
        """The rate is in force in the very batch, whether or not somebody looks at the model."""
        model = make_model()
        fit(model, kcp.LearningRateScheduler(SCHEDULE), *(o() for o in observers))
        by_hand = trained_by_hand(expected_rates(2 * BATCHES))
        np.testing.assert_allclose(weights_of(model), by_hand, rtol=1e-6, atol=1e-7)

    def test_a_rate_that_another_callback_sets_after_it_holds(self):
        class Freeze(keras.callbacks.Callback):
            def on_train_batch_begin(self, batch, logs=None):
                self.model.optimizer.learning_rate.assign(0.0)

        model = make_model()
        before = weights_of(model)
        fit(model, kcp.LearningRateScheduler(SCHEDULE), Freeze())
        np.testing.assert_array_equal(weights_of(model), before)

    def test_the_last_of_two_wins(self):
        model, seen = make_model(), Observe()
        fit(
            model,
            kcp.LearningRateScheduler(Constant(1.0)),
            kcp.LearningRateScheduler(SCHEDULE),
            seen,
        )
        assert seen.rates == expected_rates(2 * BATCHES)
        by_hand = trained_by_hand(expected_rates(2 * BATCHES))
        np.testing.assert_allclose(weights_of(model), by_hand, rtol=1e-6, atol=1e-7)

    def test_a_generator_that_ends_unannounced(self):
        """The batch that was begun and not trained moves the schedule as little as the optimizer.

        On TensorFlow the step that finds no data may count all the same, so the start of the
        second `fit` is asked of the optimizer.
        """

        def batches():
            for start in (0, 2, 4):
                yield X[start : start + 2], Y[start : start + 2]

        model = make_model()
        for _ in range(2):
            seen, start = Observe(), int(model.optimizer.iterations)
            with pytest.warns(UserWarning, match="ran out of data"):
                model.fit(
                    batches(),
                    steps_per_epoch=5,
                    verbose=0,
                    shuffle=False,
                    callbacks=[kcp.LearningRateScheduler(SCHEDULE), seen],
                )
            assert seen.rates == float32(SCHEDULE(start + index) for index in range(3))

    @pytest.mark.tensorflow
    def test_a_dataset_of_unknown_length(self):
        """Its first epoch ends with a batch that is begun and not trained."""
        import tensorflow

        class ObserveEpochs(Observe):
            def on_epoch_begin(self, epoch, logs=None):
                starts.append(int(self.model.optimizer.iterations))

        starts, seen, model = [], ObserveEpochs(), make_model()
        data = tensorflow.data.Dataset.from_tensor_slices((X, Y)).batch(2).take(3)
        data = data.filter(lambda x, y: True)  # of which TensorFlow cannot tell the length
        with pytest.warns(UserWarning, match="ran out of data"):
            model.fit(
                data,
                epochs=2,
                shuffle=False,
                verbose=0,
                callbacks=[kcp.LearningRateScheduler(SCHEDULE), seen],
            )
        assert seen.rates == float32(
            SCHEDULE(start + index) for start in starts for index in range(3)
        )

    def test_run_eagerly(self):
        model, seen = make_model(run_eagerly=True), Observe()
        fit(model, kcp.LearningRateScheduler(SCHEDULE), seen)
        assert seen.rates == expected_rates(2 * BATCHES)

    def test_adam_with_moving_averages(self):
        seen = Observe()
        model = make_model(keras.optimizers.Adam(0.5, use_ema=True))
        fit(model, kcp.LearningRateScheduler(SCHEDULE), seen)
        assert seen.rates == expected_rates(2 * BATCHES)


class TestCallbackAndOptimizerAgree:
    """The same schedule in the callback and inside the optimizer: to single precision."""

    @pytest.mark.parametrize(
        "options",
        [{}, {"gradient_accumulation_steps": 2}, {"gradient_accumulation_steps": 3}],
        ids=str,
    )
    def test_weights(self, options):
        outside = make_model(keras.optimizers.SGD(0.5, momentum=0.9, **options))
        fit(outside, kcp.LearningRateScheduler(SCHEDULE))
        fit(outside, kcp.LearningRateScheduler(SCHEDULE), epochs=1)
        inside = make_model(
            keras.optimizers.SGD(as_keras_schedule(SCHEDULE), momentum=0.9, **options)
        )
        fit(inside)
        fit(inside, epochs=1)
        np.testing.assert_allclose(weights_of(outside), weights_of(inside), rtol=1e-5, atol=1e-6)

    def test_rates_inside_the_optimizer(self):
        model, seen = make_model(keras.optimizers.SGD(as_keras_schedule(SCHEDULE))), Observe()
        fit(model, seen)
        # After a step the optimizer answers for the next one.
        following = [SCHEDULE(step + 1) for step in range(2 * BATCHES)]
        assert seen.rates == pytest.approx(following, rel=1e-6)

    def test_a_schedule_of_keras_in_the_callback(self):
        theirs = keras.optimizers.schedules.CosineDecay(
            0.02, 12, alpha=0.1, warmup_target=0.2, warmup_steps=3
        )
        model, seen = make_model(), Observe()
        fit(model, kcp.LearningRateScheduler(theirs), seen)
        assert seen.rates == pytest.approx(expected_rates(2 * BATCHES), rel=1e-6)

    def test_a_wrapped_schedule_in_the_callback_is_the_schedule(self):
        model, seen = make_model(), Observe()
        fit(model, kcp.LearningRateScheduler(as_keras_schedule(SCHEDULE)), seen)
        assert seen.rates == expected_rates(2 * BATCHES)

    @pytest.mark.skipif(
        keras.backend.backend() == "torch", reason="PyTorch has no steps_per_execution"
    )
    def test_inside_the_optimizer_with_several_steps_per_execution(self):
        many = make_model(keras.optimizers.SGD(as_keras_schedule(SCHEDULE)), steps_per_execution=4)
        fit(many)
        by_hand = trained_by_hand(expected_rates(2 * BATCHES))
        np.testing.assert_allclose(weights_of(many), by_hand, rtol=1e-5, atol=1e-6)

    def test_the_schedule_is_saved_with_the_model(self, tmp_path):
        model = make_model(keras.optimizers.SGD(as_keras_schedule(SCHEDULE)))
        fit(model, epochs=1)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        fit(model)
        fit(loaded)
        np.testing.assert_array_equal(weights_of(loaded), weights_of(model))
        config = loaded.optimizer.get_config()["learning_rate"]
        assert keras.optimizers.schedules.deserialize(config) == as_keras_schedule(SCHEDULE)


class TestOptimizers:
    def test_loss_scaling_counts_the_steps_that_were_taken(self):
        """A skipped batch does not move the schedule, as it does not inside the optimizer."""
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.5), initial_scale=2.0**127
        )
        model, seen = make_model(optimizer, loss_weights=[100.0]), Observe()
        fit(model, kcp.LearningRateScheduler(LinearDecay(1e-3, 100)), seen, epochs=4)
        assert seen.steps[-1] > 2, "too few steps were taken"
        assert seen.steps[-1] < len(seen.steps), "no step was skipped, which says nothing"
        taken_before = [0, *seen.steps[:-1]]
        assert seen.rates == float32(LinearDecay(1e-3, 100)(step) for step in taken_before)

    @pytest.mark.skipif(
        not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
    )
    def test_an_optimizer_of_several_parts(self, capsys):
        first, second = keras.optimizers.SGD(0.5, name="a"), keras.optimizers.SGD(0.5, name="b")
        model = make_model()
        chosen = {v.path: (first if i < 2 else second) for i, v in enumerate(model.weights)}
        model.compile(keras.optimizers.MultiOptimizer(lambda v: chosen[v.path]), loss="mse")
        history = fit(model, kcp.LearningRateScheduler(SCHEDULE, verbose=1))
        last = expected_rates(2 * BATCHES)[BATCHES - 1 :: BATCHES]
        assert history["learning_rate_a"] == history["learning_rate_b"] == last
        by_hand = trained_by_hand(expected_rates(2 * BATCHES))
        np.testing.assert_allclose(weights_of(model), by_hand, rtol=1e-6, atol=1e-7)
        printed = capsys.readouterr().out
        assert "Epoch 1: LearningRateScheduler setting a learning rate to 0.02." in printed
        assert "Epoch 1: LearningRateScheduler setting b learning rate to 0.02." in printed

    @pytest.mark.parametrize("schedule", [SCHEDULE, lambda epoch: 0.1])
    @pytest.mark.parametrize(
        "rate",
        [as_keras_schedule(SCHEDULE), keras.optimizers.schedules.CosineDecay(0.1, 9), lambda: 0.1],
        ids=["ours", "Keras's", "callable"],
    )
    def test_one_that_owns_a_schedule_is_refused_before_the_first_epoch(self, schedule, rate):
        model = make_model(keras.optimizers.SGD(rate))
        began = []
        observer = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: began.append(1))
        with pytest.raises(UnsupportedLearningRateError, match="Give the optimizer a plain number"):
            fit(model, observer, kcp.LearningRateScheduler(schedule))
        assert not began

    def test_a_schedule_of_ours_that_was_given_as_it_is_says_how_to_give_it(self):
        model = make_model(keras.optimizers.SGD(SCHEDULE))
        with pytest.raises(Exception, match=r"learning_rate=kcp\.as_keras_schedule\(schedule\)"):
            fit(model)

    @pytest.mark.skipif(
        keras.backend.backend() == "torch", reason="PyTorch has no steps_per_execution"
    )
    def test_a_rate_per_batch_with_several_steps_per_execution_is_refused(self):
        model = make_model(steps_per_execution=2)
        with pytest.raises(UnsupportedLearningRateError, match="as_keras_schedule"):
            fit(model, kcp.LearningRateScheduler(SCHEDULE))
        history = fit(model, kcp.LearningRateScheduler(SCHEDULE, update_freq="epoch"))
        assert history["learning_rate"] == float32([SCHEDULE(0), SCHEDULE(BATCHES)])


class TestFunctions:
    def test_of_the_epoch(self):
        model, seen = make_model(), Observe()
        history = fit(model, kcp.LearningRateScheduler(lambda epoch: 0.5 / (1 + epoch)), seen)
        assert seen.rates == [0.5] * BATCHES + [0.25] * BATCHES
        assert history["learning_rate"] == [0.5, 0.25]

    def test_of_the_epoch_and_the_rate(self):
        history = fit(make_model(), kcp.LearningRateScheduler(lambda epoch, lr: lr / 2))
        assert history["learning_rate"] == [0.25, 0.125]

    def test_of_the_step_and_the_rate_at_every_batch(self):
        model, seen, clock = make_model(), Observe(), []

        def halve(step, lr):
            clock.append(step)
            return lr / 2

        fit(model, kcp.LearningRateScheduler(halve, update_freq="batch"), seen)
        assert clock == list(range(2 * BATCHES))
        assert seen.rates == [0.5 / 2 ** (step + 1) for step in clock]

    def test_a_type_error_in_the_function_is_not_hidden(self):
        """Keras answers it by calling again with one argument, and reports that call's error."""

        def broken(epoch, lr):
            return "a" + lr

        with pytest.raises(TypeError, match="can only concatenate str"):
            fit(make_model(), kcp.LearningRateScheduler(broken))

    @pytest.mark.parametrize(
        "value", [np.float64(0.125), np.float32(0.125), np.array(0.125), 1, "tensor"], ids=repr
    )
    def test_any_number_is_a_rate(self, value):
        value = keras.ops.convert_to_tensor(0.125) if value == "tensor" else value
        history = fit(make_model(), kcp.LearningRateScheduler(lambda epoch: value), epochs=1)
        assert history["learning_rate"] == [float(value)]

    @pytest.mark.parametrize(
        "value", [float("nan"), float("inf"), None, "0.1", True, np.ones(2)], ids=repr
    )
    def test_what_is_no_finite_number_is_refused(self, value):
        with pytest.raises(InvalidArgumentError, match="check what it returns"):
            fit(make_model(), kcp.LearningRateScheduler(lambda epoch: value))


class TestMessagesAndLogs:
    def test_the_message_of_each_epoch(self, capsys):
        fit(make_model(), kcp.LearningRateScheduler(LinearDecay(0.5, 8), verbose=1))
        lines = [line for line in capsys.readouterr().out.splitlines() if line]
        assert lines == [
            "Epoch 1: LearningRateScheduler setting learning rate to 0.5.",
            "Epoch 2: LearningRateScheduler setting learning rate to 0.25.",
        ]

    def test_says_nothing_by_default(self, capsys):
        fit(make_model(), kcp.LearningRateScheduler(SCHEDULE))
        assert capsys.readouterr().out == ""

    def test_the_logs_have_the_rate_of_the_last_batch(self):
        history = fit(make_model(), kcp.LearningRateScheduler(SCHEDULE))
        assert history["learning_rate"] == float32([SCHEDULE(3), SCHEDULE(7)])
        assert [type(rate) for rate in history["learning_rate"]] == [float, float]


class TestState:
    def test_reads_the_clock_again_when_the_state_is_put_back_within_an_epoch(self):
        """As `BackupAndRestore` does: after the hooks of the epoch, and with the optimizer's."""

        class Restore(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                self.model.optimizer.iterations.assign(6)
                callback.set_state({})

        model, seen = make_model(), Observe()
        callback = kcp.LearningRateScheduler(SCHEDULE)
        fit(model, callback, Restore(), seen, epochs=1)
        assert seen.rates == float32(SCHEDULE(step) for step in (6, 7, 8, 9))

    def test_state_is_plain_and_empty(self):
        assert kcp.LearningRateScheduler(SCHEDULE).get_state() == {}


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ({"schedule": 0.1}, r"kcp\.schedules\.Constant"),
        ({"schedule": CosineDecay}, "an instance is needed"),
        ({"schedule": SCHEDULE, "update_freq": "step"}, "Leave it out"),
        ({"schedule": SCHEDULE, "update_freq": 10}, "Leave it out"),
    ],
)
def test_bad_arguments_are_refused_with_a_fix(arguments, fix):
    with pytest.raises(InvalidArgumentError, match=fix):
        kcp.LearningRateScheduler(**arguments)


def test_is_a_keras_scheduler_with_keras_attributes():
    callback = kcp.LearningRateScheduler(SCHEDULE, 1)
    assert isinstance(callback, keras.callbacks.LearningRateScheduler)
    assert callback.schedule is SCHEDULE
    assert callback.verbose == 1


def test_only_a_schedule_of_ours_becomes_one_of_keras():
    with pytest.raises(InvalidArgumentError, match="goes into the optimizer as it is"):
        as_keras_schedule(lambda step: 0.1)
