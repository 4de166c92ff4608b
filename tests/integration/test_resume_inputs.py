"""Data with state of its own: it is kept, or it is told before the first epoch."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.errors import ResumeError
from tests.helpers.interrupted import AT_EPOCH, BATCH, SAMPLES, WITHIN, arrays, compare, train

pytestmark = pytest.mark.backend

PLACES = pytest.mark.parametrize("place", [AT_EPOCH, WITHIN], ids=["epoch", "within"])
GLOBAL = np.random.default_rng(6)


class Augmenter:
    """Holds the generator that a dataset draws from."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, x):
        return x + self.rng.normal(size=x.shape).astype("float32")


class Augmented(keras.utils.PyDataset):
    """Draws through an object that it holds."""

    def __init__(self):
        super().__init__()
        self.x, self.y = arrays()
        self.augment = Augmenter()

    def __len__(self):
        return SAMPLES // BATCH

    def __getitem__(self, index):
        rows = slice(index * BATCH, (index + 1) * BATCH)
        return self.augment(self.x[rows]), self.y[rows]


class FromTheModule(Augmented):
    """Draws from a generator of its module."""

    def __init__(self):
        super().__init__()
        GLOBAL.bit_generator.state = np.random.default_rng(6).bit_generator.state

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + GLOBAL.normal(size=x.shape).astype("float32"), y


class Seeks(Augmented):
    """Has a method of its own that is called `seek`."""

    def seek(self, offset, whence=0):
        raise AssertionError("it is not for us to call")


@PLACES
@pytest.mark.parametrize("kind", [Augmented, FromTheModule, Seeks])
def test_a_generator_that_a_dataset_reaches_is_kept(tmp_path, kind, place):
    assert compare(tmp_path, place, data=kind) == ([], [])


def loaders():
    torch = pytest.importorskip("torch")
    data = torch.utils.data

    class OwnGenerator(data.Dataset):
        def __init__(self):
            self.x, self.y = arrays()
            self.rng = np.random.default_rng(0)

        def __len__(self):
            return SAMPLES

        def __getitem__(self, index):
            return self.x[index] + self.rng.normal(size=4).astype("float32"), self.y[index]

    class OwnOrder(data.Sampler):
        def __init__(self):
            self.rng = np.random.default_rng(4)

        def __len__(self):
            return SAMPLES

        def __iter__(self):
            return iter(self.rng.permutation(SAMPLES).tolist())

    class CountsEpochs(data.IterableDataset):
        def __init__(self):
            self.x, self.y = arrays()
            self.epoch = 0

        def __iter__(self):
            self.epoch += 1
            for row in np.random.default_rng(self.epoch).permutation(SAMPLES):
                yield self.x[row], self.y[row]

    def plain():
        return data.TensorDataset(*map(torch.from_numpy, arrays()))

    def collate():
        rng = np.random.default_rng(8)

        def with_noise(rows):
            x, y = data.default_collate(rows)
            return x + torch.from_numpy(rng.normal(size=tuple(x.shape)).astype("float32")), y

        return with_noise

    return {
        "dataset": lambda: data.DataLoader(OwnGenerator(), BATCH, shuffle=True),
        "subset": lambda: data.DataLoader(data.Subset(OwnGenerator(), range(24)), BATCH),
        "sampler": lambda: data.DataLoader(plain(), BATCH, sampler=OwnOrder()),
        "iterable": lambda: data.DataLoader(CountsEpochs(), BATCH),
        "collate": lambda: data.DataLoader(plain(), BATCH, collate_fn=collate()),
    }


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@PLACES
@pytest.mark.parametrize("name", ["dataset", "subset", "sampler", "iterable", "collate"])
def test_the_state_behind_a_data_loader_is_kept(tmp_path, name, place):
    place = (1, 2) if place == WITHIN else place
    assert compare(tmp_path, place, data=loaders()[name], shuffle=False) == ([], [])


def datasets():
    tf = pytest.importorskip("tensorflow")
    x, y = arrays()
    base = tf.data.Dataset.from_tensor_slices((x, y))
    flip = keras.layers.RandomFlip(seed=3)  # one that works in a pipeline on every backend
    generator = tf.random.Generator.from_seed(3)
    rng = np.random.default_rng(0)

    def rows():
        for row in rng.permutation(SAMPLES):
            yield x[row], y[row]

    spec = (tf.TensorSpec((4,), tf.float32), tf.TensorSpec((1,), tf.float32))

    def noisy(a, b):
        return tf.reshape(flip(tf.reshape(a, (2, 2, 1)), training=True), (4,)), b

    def drawn(a, b):
        return a + generator.normal((4,)), b

    def uniform(a, b):
        return a + tf.random.uniform((4,)), b

    return {
        "layer": (base.map(noisy), "operation .*with state of its own"),
        "generator": (base.map(drawn), "operation .*with state of its own"),
        "python": (tf.data.Dataset.from_generator(rows, output_signature=spec), "Python code"),
        "threads": (base.map(uniform, num_parallel_calls=2), "drawn by several threads"),
        "any order": (base.map(lambda a, b: (a, b), 2, deterministic=False), "deterministic=False"),
        "cache": (base.shuffle(9).cache(), r"`\.cache\(\)` after a step"),
        "repeat": (base.shuffle(9).repeat(2), r"`\.repeat\(\)` after a step"),
        "uniform": (base.map(uniform), None),
        "stateless": (base.shuffle(9).map(lambda a, b: (2.0 * a, b)).prefetch(2), None),
    }


@pytest.mark.parametrize("name", ["layer", "generator", "python", "threads", "any order", "cache"])
@pytest.mark.parametrize("of", ["training", "validation"])
def test_what_a_pipeline_cannot_give_again_is_told(tmp_path, name, of):
    dataset, match = datasets()[name]
    dataset = dataset.batch(BATCH)
    given = {"data": lambda: dataset} if of == "training" else {"validation_data": lambda: dataset}
    subject = "The data" if of == "training" else "The validation data"
    with pytest.raises(ResumeError, match=rf"{subject} \(tf.data\) has .*{match}"):
        train(tmp_path, backup={"on_inexact": "raise"}, **given)


def test_a_pipeline_that_repeats_what_it_shuffles_is_told(tmp_path):
    dataset, match = datasets()["repeat"]
    with pytest.raises(ResumeError, match=match):
        train(tmp_path, data=lambda: dataset.batch(BATCH), backup={"on_inexact": "raise"})


@PLACES
@pytest.mark.parametrize("name", ["uniform", "stateless"])
def test_what_a_pipeline_can_give_again_is_exact_and_not_told(tmp_path, name, place):
    def data():
        return datasets()[name][0].batch(BATCH)

    assert compare(tmp_path, place, data=data) == ([], [])


def validation(kind):
    if kind == "tf.data":
        tf = pytest.importorskip("tensorflow")
        return lambda: tf.data.Dataset.from_tensor_slices(arrays()).shuffle(SAMPLES).batch(BATCH)
    if kind == "DataLoader":
        torch = pytest.importorskip("torch")
        tensors = list(map(torch.from_numpy, arrays()))
        loader, dataset = torch.utils.data.DataLoader, torch.utils.data.TensorDataset
        return lambda: loader(dataset(*tensors), batch_size=BATCH, shuffle=True)
    if kind == "resumable":
        return lambda: kcp.resumable(*arrays(), batch_size=BATCH, seed=3)
    return Augmented


@PLACES
@pytest.mark.parametrize("frequency", [1, 2])
@pytest.mark.parametrize("kind", ["tf.data", "PyDataset", "DataLoader", "resumable"])
def test_the_state_of_validation_data_is_kept(tmp_path, kind, frequency, place):
    if kind != "tf.data" and frequency == 2:
        pytest.skip("one kind of data is enough for this")
    place = place if place == WITHIN else (3, 0)
    given = {"validation_data": validation(kind), "validation_freq": frequency}
    assert compare(tmp_path, place, epochs=4, **given) == ([], [])


def test_a_generator_as_validation_data_is_told(tmp_path):
    x, y = arrays()
    batches = ((x[i : i + 8], y[i : i + 8]) for _ in range(9) for i in range(0, SAMPLES, 8))
    with pytest.raises(ResumeError, match=r"validation data is a generator.*pass arrays"):
        train(
            tmp_path,
            validation_data=batches,
            validation_steps=2,
            backup={"on_inexact": "raise"},
        )


@pytest.mark.parametrize("within", [False, True], ids=["epoch", "within"])
def test_endless_data_goes_on_where_it_was(tmp_path, within):
    tf = pytest.importorskip("tensorflow")
    place = WITHIN if within else AT_EPOCH

    def data():
        dataset = tf.data.Dataset.from_tensor_slices(arrays())
        return dataset.shuffle(SAMPLES, seed=3).repeat().batch(6)

    assert compare(tmp_path, place, data=data, steps_per_epoch=4) == ([], [])


def test_arrays_in_parts_go_on_where_they_were(tmp_path):
    kind = {"steps_per_epoch": 2, "epochs": 4, "batch_size": 10}
    assert compare(tmp_path, (3, 0), **kind) == ([], [])
    assert compare(tmp_path / "within", (1, 1), **kind) == ([], [])


def test_a_generator_is_replayed_and_told_all_the_same(tmp_path):
    def batches():
        rng = np.random.default_rng(0)
        x, y = arrays()
        while True:
            rows = rng.integers(0, SAMPLES, BATCH)
            yield x[rows], y[rows]

    differs, told = compare(tmp_path, AT_EPOCH, data=batches, steps_per_epoch=4)
    assert differs == []
    assert told
    assert all("GeneratorDataAdapter" in text for text in told)


def test_resumable_data_in_parts_is_told(tmp_path):
    data = kcp.resumable(*arrays(), batch_size=BATCH)
    with pytest.raises(ResumeError, match="leave `steps_per_epoch` out"):
        train(tmp_path, data=lambda: data, steps_per_epoch=2, backup={"on_inexact": "raise"})
