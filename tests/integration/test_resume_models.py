"""Models that a first step has yet to build, and what they hold beside `model.optimizer`."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_callbacks_plus.errors import ResumeError, RunMismatchError
from tests.helpers import interrupted
from tests.helpers.interrupted import AT_EPOCH, WITHIN, arrays, compare, train

pytestmark = pytest.mark.backend

PLACES = pytest.mark.parametrize("place", [AT_EPOCH, WITHIN], ids=["epoch", "within"])


class OfDict(keras.Model):
    """Two inputs by name; its layers are built by its first call."""

    def __init__(self):
        super().__init__()
        self.a, self.b = keras.layers.Dense(3), keras.layers.Dense(3)
        self.out = keras.layers.Dense(1)

    def call(self, x):
        return self.out(self.a(x["p"]) + self.b(x["q"]))


class OfList(OfDict):
    """Two inputs in a list."""

    def call(self, x):
        return self.out(self.a(x[0]) + self.b(x[1]))


class BuildsNothing(OfDict):
    """Its own `build` says that it is built, and is not."""

    def build(self, shape):
        self.built = True

    def call(self, x):
        return self.out(self.a(x))


def compiled(kind):
    def make():
        model = kind()
        model.compile("adam", "mse", metrics=["mae"])
        return model

    return make


def by_name():
    x, y = arrays()
    return {"p": x, "q": x[:, :2]}, y


def in_list():
    x, y = arrays()
    return [x, x[:, :2]], y


UNBUILT = {
    "dict": {"make": compiled(OfDict), "data": by_name},
    "list": {"make": compiled(OfList), "data": in_list},
    "own-build": {"make": compiled(BuildsNothing)},
}


@PLACES
@pytest.mark.parametrize("name", list(UNBUILT))
def test_an_unbuilt_model_is_resumed_whatever_its_inputs_are(tmp_path, name, place):
    assert compare(tmp_path, place, **UNBUILT[name]) == ([], [])


@pytest.mark.parametrize("name", list(UNBUILT))
def test_an_unbuilt_model_whose_run_has_finished_has_its_weights(tmp_path, name):
    whole = train(tmp_path, **UNBUILT[name])
    assert train(tmp_path, **UNBUILT[name]) == whole


class TwoOptimizers(keras.Model):
    """The pattern of a GAN: each part has an optimizer of its own, and no one has called it."""

    def __init__(self, in_list=False):
        super().__init__()
        self.g = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
        self.d = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        self.in_list = in_list
        self.seen = keras.metrics.Mean(name="seen")  # nobody resets it

    def compile(self, d_opt, g_opt):
        super().compile(loss="mse")
        if self.in_list:
            self.all_of_them = {"both": [d_opt, g_opt]}
        else:
            self.d_opt, self.g_opt = d_opt, g_opt
        self.total = keras.metrics.Mean(name="l")

    @property
    def metrics(self):
        return [self.total]

    def optimizers(self):
        return self.all_of_them["both"] if self.in_list else [self.d_opt, self.g_opt]

    def call(self, x):
        return self.d(self.g(x))

    def train_step(self, data):
        x, y = data
        if keras.backend.backend() == "torch":
            import torch

            self.zero_grad()
            loss = ((self(x) - y) ** 2).mean()
            loss.backward()
            variables = [net.trainable_variables for net in (self.d, self.g)]
            gradients = [[v.value.grad for v in part] for part in variables]
            with torch.no_grad():
                self.apply(gradients, variables)
            loss = loss.detach()
        else:
            import tensorflow as tf

            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x) - y) ** 2)
            variables = [net.trainable_variables for net in (self.d, self.g)]
            weights = [[v.value for v in part] for part in variables]
            self.apply(tape.gradient(loss, weights), variables)
        self.total.update_state(loss)
        self.seen.update_state(loss)
        return {"l": self.total.result()}

    def apply(self, gradients, variables):
        for optimizer, gradient, part in zip(self.optimizers(), gradients, variables, strict=True):
            optimizer.apply(gradient, part)


class OwnForward(TwoOptimizers):
    """Has no call that Keras could use: only its train step builds it, and its optimizers."""

    def __init__(self):
        super().__init__()
        self.g = keras.layers.Dense(4)

    def __call__(self, x):
        if isinstance(x, keras.KerasTensor):
            raise NotImplementedError
        return self.d(self.g(x))


def two_optimizers(kind=TwoOptimizers, **more):
    def make():
        model = kind(**more)
        model.compile(keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.02))
        return model

    return make


def kept(model):
    return [v for optimizer in model.optimizers() for v in optimizer.variables] + list(
        model.seen.variables
    )


@PLACES
@pytest.mark.parametrize("in_list", [False, True], ids=["attributes", "containers"])
def test_every_optimizer_is_kept(tmp_path, in_list, place):
    if keras.backend.backend() == "jax":
        pytest.skip("on JAX, Keras passes the variables of one optimizer through the step")
    make = two_optimizers(in_list=in_list)
    assert compare(tmp_path, place, make=make, get=kept) == ([], [])


@pytest.mark.tensorflow
@PLACES
def test_what_only_a_train_step_can_build_is_put_back_after_the_first_one(tmp_path, place):
    make = two_optimizers(OwnForward)
    assert compare(tmp_path, place, make=make, get=kept) == ([], [])


@pytest.mark.tensorflow
def test_a_finished_run_that_cannot_be_built_says_how_to(tmp_path):
    make = two_optimizers(OwnForward)
    train(tmp_path, make=make)
    with pytest.raises(ResumeError, match="call it on a batch of the data"):
        train(tmp_path, make=make)


def test_another_second_optimizer_is_named(tmp_path):
    if keras.backend.backend() == "jax":
        pytest.skip("on JAX, Keras passes the variables of one optimizer through the step")

    def other():
        model = TwoOptimizers()
        model.compile(keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.02, momentum=0.5))
        return model

    with pytest.raises(interrupted.Boom):
        train(tmp_path, make=two_optimizers(), place=WITHIN)
    with pytest.raises(RunMismatchError, match=r"g_opt: was Adam, is SGD"):
        train(tmp_path, make=other)


def test_other_metrics_within_an_epoch_are_an_error_that_says_so(tmp_path):
    make = interrupted.plain_model
    with pytest.raises(interrupted.Boom):
        train(tmp_path, make=make, place=WITHIN)
    backup = {"on_mismatch": "ignore"}
    with pytest.raises(ResumeError, match="Compile the model with the metrics that it had"):
        train(tmp_path, make=lambda: make(metrics=["mae", "mse"]), backup=backup)
    assert np.isfinite(train(tmp_path, make=make)["history"]["loss"]).all()


@pytest.mark.torch
def test_an_optimizer_of_pytorch_is_told(tmp_path):
    import torch

    def make():
        model = interrupted.plain_model()
        model.own = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        return model

    with pytest.raises(ResumeError, match=r"`own` \(a torch.optim.SGD\) is not kept"):
        train(tmp_path, make=make, backup={"on_inexact": "raise"})
