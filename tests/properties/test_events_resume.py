"""A run that is killed and resumed at any points is read back as one that never was."""

import math
import os
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tbparse import SummaryReader
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator as PluginEventAccumulator,
)
from tensorboard.util.tensor_util import make_ndarray

from keras_callbacks_plus.events import EventFileWriter, trim
from keras_callbacks_plus.events._record import EventPacker
from keras_callbacks_plus.storage import LocalFileSystem

LENGTH = 30
# The step that a snapshot was taken at, how far the run then got before it was killed, how much of
# its last event was on the disk, and how far the clock was set back meanwhile.
kills = st.lists(
    st.tuples(
        st.integers(-1, LENGTH - 1), st.integers(0, 10), st.integers(0, 40), st.integers(-5, 5)
    ),
    max_size=4,
)


def value(step):
    return {"loss": math.sin(step), "accuracy": step / LENGTH}


def write(folder, first, end, now):
    """One life of the run."""
    writer = EventFileWriter(
        folder,
        run="a",
        first_step=first,
        file_system=LocalFileSystem(),
        flush_secs=3600.0,
        clock=lambda: now,
    )
    for step in range(first, end):
        writer.write_scalars(step, value(step), wall_time=now + step)
    writer.close()


def kill(folder, step, torn):
    """What a kill leaves: the newest file ends anywhere in its last event."""
    record = EventPacker().scalars(0.0, step, value(step))
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    if names:
        with open(os.path.join(folder, names[-1]), "ab") as file:
            file.write(record[: min(torn, len(record) - 1)])


def live(folder, kills):
    done = -1  # the last step of the run that a snapshot may name
    now = 1_700_000_000.0
    for snapshot, further, torn, clock in kills:
        last = min(max(snapshot, -1), LENGTH - 1)
        trim(folder, "a", min(last, done), LocalFileSystem())
        first = min(last, done) + 1
        done = min(max(first, last + further), LENGTH - 1)
        write(folder, first, done + 1, now)
        kill(folder, done + 1, torn)
        now += clock
    last = min(done, kills[-1][0] if kills else -1)
    trim(folder, "a", last, LocalFileSystem())
    write(folder, last + 1, LENGTH, now)


def read_by(accumulator_class, folder, tag):
    accumulator = accumulator_class(folder, size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    if accumulator_class is EventAccumulator:
        return [(event.step, event.value) for event in accumulator.Scalars(tag)]
    return [(e.step, make_ndarray(e.tensor_proto).item()) for e in accumulator.Tensors(tag)]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(kills)
def test_a_killed_and_resumed_run_reads_as_an_uninterrupted_one(kills):
    with tempfile.TemporaryDirectory() as root:
        folder = os.path.join(root, "train")
        live(folder, kills)
        for tag in ("loss", "accuracy"):
            points = [(step, pytest.approx(value(step)[tag], abs=1e-6)) for step in range(LENGTH)]
            assert read_by(EventAccumulator, folder, tag) == points
            assert read_by(PluginEventAccumulator, folder, tag) == points


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # tbparse 0.0.9 on pandas 3.1
@settings(max_examples=10, deadline=None, derandomize=True)
@given(kills)
def test_a_reader_of_single_files_reads_it_too(kills):
    with tempfile.TemporaryDirectory() as root:
        live(root, kills)
        frame = SummaryReader(root).scalars  # never purges over files, so only trimming helps
        for tag in ("loss", "accuracy"):
            assert list(frame[frame.tag == tag].step) == list(range(LENGTH))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 400), st.integers(0, 20), st.binary(max_size=40))
def test_trimming_a_file_cut_anywhere_keeps_a_readable_prefix(cut, last_step, garbage):
    packer = EventPacker()
    events = [packer.scalars(0.0, step, {"loss": 1.0}) for step in range(10)]
    head = packer.file_version(0.0) + packer.start(0.0, 0)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "events.out.tfevents.0000000001.h.1.0.kcp-a")
        with open(path, "wb") as file:
            file.write((head + b"".join(events))[:cut] + garbage)
        trim(folder, "a", last_step, LocalFileSystem())
        with open(path, "rb") as file:
            left = file.read()
    pieces = [packer.file_version(0.0), packer.start(0.0, 0), *events[: last_step + 1]]
    prefixes = [b"".join(pieces[:n]) for n in range(len(pieces) + 1)]
    assert left in prefixes
    assert len(left) == max(len(p) for p in prefixes if len(p) <= cut) or garbage
