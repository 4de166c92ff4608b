"""`CallbackStates`: what of each callback is state, whoever wrote it."""

from __future__ import annotations

import collections
import copy
import enum
import operator
import pathlib
import queue
import threading

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus._keras.callback_state import CallbackStates
from keras_callbacks_plus._keras.plain_data import is_plain
from keras_callbacks_plus.errors import ResumeError
from keras_callbacks_plus.storage import ContainerPayload, read_container

pytestmark = pytest.mark.backend


class Stranger(keras.callbacks.Callback):
    def __init__(self, alpha=0.1):
        super().__init__()
        self.alpha = alpha
        self.seen = []
        self.total = np.zeros(2)
        self.handle = None


def test_a_strangers_changed_plain_attributes_are_its_state():
    before = Stranger(alpha=0.1)
    states = CallbackStates([before])
    before.seen.append(3)
    before.total += 1
    captured, lost = states.capture()
    assert lost == []

    after = Stranger(alpha=0.2)  # the restarted script has another argument
    CallbackStates([after]).restore(captured, CallbackStates.names([after]))
    assert after.seen == [3]
    np.testing.assert_array_equal(after.total, [1, 1])
    assert after.alpha == 0.2


def test_what_was_captured_does_not_change_with_the_callback():
    callback = Stranger()
    states = CallbackStates([callback])
    callback.seen.append(1)
    captured, _ = states.capture()
    callback.seen.append(2)
    assert captured[0]["attributes"]["seen"] == [1]


def test_an_attribute_that_cannot_be_kept_is_named():
    callback = Stranger()
    states = CallbackStates([callback])
    callback.handle = object()
    _, lost = states.capture()
    assert lost == ["Stranger.handle (a object)"]


class Tracker:
    def __init__(self):
        self.count, self.history = 0, []


class Slotted:
    __slots__ = ("__hidden", "count")

    def __init__(self):
        self.count = 0
        self.__hidden = [0]

    def add(self):
        self.count += 1
        self.__hidden.append(self.count)


class Phase(enum.Enum):
    WARM, HOT = 1, 2


class Rich(keras.callbacks.Callback):
    """State of every kind that is changed in place."""

    def __init__(self):
        super().__init__()
        self.seen = set()
        self.last = collections.deque(maxlen=2)
        self.counts = collections.Counter()
        self.groups = collections.defaultdict(list)
        self.order = collections.OrderedDict()
        self.digest = b""
        self.tracker = Tracker()
        self.trackers = {"a": Tracker(), "b": [Slotted()]}
        self.mean = keras.metrics.Mean()
        self.variable = keras.Variable([0.0, 0.0])
        self.noise = keras.random.SeedGenerator(3)
        self.rng = np.random.default_rng(1)
        self.scalar = np.float32(0)
        self.loud = print
        self.lock = threading.Lock()
        self.path = pathlib.Path("somewhere")

    def step(self, n):
        self.seen.add(n)
        self.last.append(n)
        self.counts[n % 2] += 1
        self.groups[n % 2].append(n)
        self.order[n] = (n, 0.5)
        self.digest += bytes([n])
        self.tracker.count += n
        self.tracker.history.append([n])
        self.trackers["a"].count += 1
        self.trackers["b"][0].add()
        self.mean.update_state(float(n))
        self.variable.assign_add([1.0, 2.0])
        self.scalar = np.float32(0.1) * np.float32(n)
        self.rng.random()
        self.noise.next()

    def all(self):
        slotted = self.trackers["b"][0]
        return [
            self.seen, self.last, self.last.maxlen, self.counts, dict(self.groups), self.order,
            self.digest, vars(self.tracker), vars(self.trackers["a"]), slotted.count,
            slotted._Slotted__hidden, float(self.mean.result()),
            keras.ops.convert_to_numpy(self.variable.value).tolist(), repr(self.scalar),
            self.rng.bit_generator.state,
            keras.ops.convert_to_numpy(self.noise.state.value).tolist(),
        ]  # fmt: skip


def through_a_file(tmp_path, captured):
    with open(tmp_path / "state", "wb") as file:
        ContainerPayload(captured).write_to(file)
    return read_container(tmp_path / "state")


def test_state_that_is_changed_in_place_is_kept(tmp_path):
    before = Rich()
    states = CallbackStates([before])
    assert states.why_unknown() == []
    for n in range(4):
        before.step(n)
    captured, lost = states.capture()
    assert lost == []
    expected = copy.deepcopy(before.all())
    before.step(9)

    after = Rich()
    again = CallbackStates([after])
    after.step(7)  # what has changed since the beginning and is not in the snapshot goes back
    tracker, seen = after.tracker, after.seen
    again.restore(through_a_file(tmp_path, captured), CallbackStates.names([after]))
    assert after.all() == expected
    assert after.tracker is tracker  # whoever shares the objects goes on sharing them
    assert after.seen is seen
    after.groups[5].append(1)  # it has its factory
    assert again.capture()[1] == []


def test_a_value_of_another_type_is_a_change():
    callback = Stranger()
    callback.values = [1, 0.0, float("nan"), {"a": 1}]
    states = CallbackStates([callback])
    assert states.capture()[0][0]["attributes"] == {}
    for changed in ([True, 0.0, float("nan"), {"a": 1}], [1, -0.0, float("nan"), {"a": 1}]):
        callback.values = changed
        assert repr(states.capture()[0][0]["attributes"]["values"]) == repr(changed)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (iter([1, 2]), "list_iterator"),
        (np.ma.zeros(3), "MaskedArray"),
        (np.array([object()]), "ndarray"),
        (np.zeros(5_000_000), "ndarray, 38 MiB"),
        ({object()}, "set"),
        (queue.Queue(), "Queue"),
        (collections.defaultdict(lambda: 0), "defaultdict"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_may_change_unseen_is_named_at_the_start(value, named):
    callback = Stranger()
    callback.handle = value
    (why,) = CallbackStates([callback]).why_unknown()
    assert f"whether Stranger.handle (a {named}) keeps state" in why
    callback.handle = Tracker()
    callback.handle.inner = value
    (why,) = CallbackStates([callback]).why_unknown()
    assert f"whether Stranger.handle.inner (a {named}) keeps state" in why


def test_what_is_no_state_is_not_named(tmp_path):
    callback = Stranger()
    callback.function, callback.module, callback.kind = len, enum, Stranger
    callback.phase, callback.data = Phase.WARM, np.zeros(5_000_000)
    callback.data.flags.writeable = False
    callback.model_of_others = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    callback.optimizer, callback.loss = keras.optimizers.Adam(), keras.losses.MeanSquaredError()
    callback.loop = callback
    with open(tmp_path / "log", "w") as callback.log:
        states = CallbackStates([callback])
        assert states.why_unknown() == []
        assert states.capture() == ([{"attributes": {}}], [])
    callback.phase = Phase.HOT
    assert states.capture()[1] == ["Stranger.phase (a Phase)"]


def test_another_model_in_a_callback_is_kept():
    def teacher():
        callback = Stranger()
        callback.teacher = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        return callback

    before, after = teacher(), teacher()
    states, again = CallbackStates([before]), CallbackStates([after])
    before.teacher.set_weights([np.ones((2, 1)), np.zeros(1)])
    again.restore(states.capture()[0], CallbackStates.names([after]))
    assert after.teacher.get_weights()[0].tolist() == [[1.0], [1.0]]


def test_what_is_of_the_model_is_kept_with_it_alone():
    model = OwnModel()
    model.compile("adam", "mse")
    model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)
    callback = Stranger()
    callback.set_model(model)
    callback.second, callback.first = model.second, model.optimizer
    callback.parts = [model, model.dense, model.dense.kernel]
    states = CallbackStates([callback])
    for variable in [*model.variables, *model.optimizer.variables, *model.second.variables]:
        variable.assign(variable + 1)
    assert states.capture() == ([{"attributes": {}}], [])


class OwnModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.second = keras.optimizers.Adam()

    def build(self, shape):
        self.dense.build(shape)
        self.second.build(self.dense.trainable_variables)

    def call(self, x):
        return self.dense(x)


def test_a_long_list_that_does_not_change_is_neither_copied_nor_compared_name_by_name():
    names = [f"{i:08d}.jpg" for i in range(300_000)]
    callback = Stranger()
    callback.names = names
    states = CallbackStates([callback])
    (copy,) = [p.value for n, p in states._members[0]._watch._root._parts.items() if n == "names"]
    assert copy is not names
    assert all(map(operator.is_, copy, names))
    assert states.capture() == ([{"attributes": {}}], [])
    names.reverse()
    assert states.capture()[0][0]["attributes"]["names"][0] == "00299999.jpg"


class Speaking(kcp.StatefulCallback):
    def __init__(self, state):
        super().__init__()
        self.state = state

    def get_state(self):
        return self.state

    def set_state(self, state):
        self.state = state


def test_a_get_state_that_cannot_be_kept_is_an_error_with_the_callback_and_the_place():
    with pytest.raises(
        ResumeError, match=r"Speaking.get_state\(\) returns a object at \['s'\]\[0\]"
    ):
        CallbackStates([Speaking({"n": 1, "s": [object()]})]).capture()


def test_a_list_that_get_state_returns_is_copied():
    callback = Speaking({"seen": []})
    captured, _ = CallbackStates([callback]).capture()
    callback.state["seen"].append(1)
    assert captured == [{"protocol": {"seen": []}}]


class OwnEarlyStopping(keras.callbacks.EarlyStopping):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.added = []


class OwnCSVLogger(keras.callbacks.CSVLogger):
    pass


def test_a_subclass_of_keras_callbacks_has_the_state_of_its_base_and_its_own():
    before, after = OwnEarlyStopping(patience=3), OwnEarlyStopping(patience=4)
    states, again = CallbackStates([before]), CallbackStates([after])
    before.monitor_op = keras.ops.less
    before.wait, before.best, before.best_weights = 2, 0.5, [np.ones(2)]
    before.added.append(1)
    captured, lost = states.capture()
    assert (lost, states.why_unknown()) == ([], [])
    again.restore(captured, CallbackStates.names([after]))
    assert (after.wait, after.best, after.added, after.patience) == (2, 0.5, [1], 4)
    assert after.monitor_op is None


def test_the_functions_of_a_lambda_callback_are_named_unless_they_can_have_no_state():
    seen = []
    quiet = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch))
    counting = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    assert CallbackStates([quiet]).why_unknown() == []
    (why,) = CallbackStates([counting]).why_unknown()
    assert "whether LambdaCallback (its functions) keeps state" in why


class Runs(keras.callbacks.Callback):
    limit = 3

    def __init__(self):
        super().__init__()
        self.act = len
        self.tracker = Tracker()

    @property
    def size(self):
        return 1


NOT_STATE = (
    "act on_epoch_end size __class__ __dict__ params _model model set_params tracker"
    " tracker.__class__ tracker.count.real nobody.count"
)


@pytest.mark.parametrize("name", [*NOT_STATE.split(), "a b"])
def test_a_snapshot_sets_nothing_but_plain_attributes(name):
    callback = Runs()
    with pytest.raises(ResumeError, match="Make the script the same"):
        CallbackStates([callback]).restore(
            [{"attributes": {name: "x"}}], CallbackStates.names([callback])
        )
    assert callback.act is len
    assert type(callback) is Runs


def test_a_snapshot_sets_only_what_is_state_of_keras_own_callbacks(tmp_path):
    callback = keras.callbacks.ModelCheckpoint(str(tmp_path / "good.keras"))
    crafted = {"attributes": {"filepath": str(tmp_path / "evil.keras"), "best": 0.5}}
    CallbackStates([callback]).restore([crafted], CallbackStates.names([callback]))
    assert callback.filepath == str(tmp_path / "good.keras")
    assert callback.best == 0.5
    for crafted in ({"protocol": {}}, {"csv": {"text": ""}}, 3):
        with pytest.raises(ResumeError, match="holds no 'attributes' for ModelCheckpoint"):
            CallbackStates([callback]).restore([crafted], CallbackStates.names([callback]))


def test_a_state_that_does_not_fit_is_an_error_of_ours():
    callback = Rich()
    for crafted in ({"rng": "x"}, {"rng": {"bit_generator": "MT19937"}}, {"mean": [1]}):
        with pytest.raises(ResumeError):
            CallbackStates([callback]).restore(
                [{"attributes": crafted}], CallbackStates.names([callback])
            )


def test_keras_own_callbacks_keep_their_state():
    before = keras.callbacks.ReduceLROnPlateau(patience=3)
    before.best, before.wait, before.cooldown_counter = 0.5, 2, 1
    captured, lost = CallbackStates([before]).capture()
    after = keras.callbacks.ReduceLROnPlateau(patience=5)
    CallbackStates([after]).restore(captured, CallbackStates.names([after]))
    assert (after.best, after.wait, after.cooldown_counter) == (0.5, 2, 1)
    assert after.patience == 5
    assert lost == []


def test_history_is_kept_and_copied():
    before = keras.callbacks.History()
    before.history, before.epoch = {"loss": [1.0, 0.5]}, [0, 1]
    captured, _ = CallbackStates([before]).capture()
    before.history["loss"].append(0.1)
    after = keras.callbacks.History()
    CallbackStates([after]).restore(captured, CallbackStates.names([after]))
    assert after.history == {"loss": [1.0, 0.5]}
    assert after.epoch == [0, 1]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, True),
        (float("nan"), True),
        ({"a": [1, (2, "x")]}, True),
        (np.arange(3), True),
        (np.float32(1), True),
        (np.array([object()]), False),
        ({(1, 2): 3, 0.5: {1, b"x"}}, True),
        (collections.Counter("aab"), True),
        (collections.defaultdict(int), True),
        (collections.defaultdict(lambda: 0), False),
        (collections.namedtuple("Point", "x")(1), False),
        (enum.IntEnum("Phase", "ONE")(1), False),
        (np.zeros(2, [("a", "i4")]), False),
        (object(), False),
        ([print], False),
    ],
)
def test_plain_data(value, plain):
    assert is_plain(value) is plain
