"""Any flipped bit in any file of a folder is found, with a range that it lies in."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_callbacks_plus as kcp
from keras_callbacks_plus.errors import CheckpointCorruptedError, ManifestError
from keras_callbacks_plus.storage import CheckpointStore
from tests.helpers.checkpoint_folder import commit

MIB = 1 << 20
SIZES = {"small.keras": 100, "block.keras": MIB // 4, "large.keras": 17 * MIB + 5}


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        for i, (name, size) in enumerate(SIZES.items()):
            # values whose text could change and mean the same: 1e-05, 1E-05; \u00e9, \u00E9
            metrics = {"val_loss": 1e-05 + i, "é": 0.1 + 0.2, "nan": float("nan")}
            commit(
                folder, name, metrics, data=bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            )
        yield folder


def flip(path, offset, bit):
    with open(path, "r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


@settings(max_examples=40)  # each one reads up to 18 MB
@given(st.sampled_from(sorted(SIZES)), st.data())
def test_a_flipped_bit_of_a_checkpoint_is_located(folder, name, data):
    offset = data.draw(st.integers(0, SIZES[name] - 1))
    bit = data.draw(st.integers(0, 7))
    checkpoint = next(c for c in kcp.checkpoints(folder) if c.name == name)
    checkpoint.verify()
    flip(folder / name, offset, bit)
    try:
        with pytest.raises(CheckpointCorruptedError) as error:
            checkpoint.verify()
    finally:
        flip(folder / name, offset, bit)
    assert error.value.path == str(folder / name)
    assert error.value.offset <= offset < error.value.end <= error.value.offset + MIB // 4
    assert offset in error.value.suspects
    assert f"between bytes {error.value.offset} and {error.value.end}" in str(error.value)


def test_every_flipped_bit_of_the_manifest_is_found(folder):
    """Every one of them: it is small."""
    store = CheckpointStore(folder)
    path = folder / "checkpoints.json"
    good = path.read_bytes()
    try:
        for offset in range(len(good)):
            for bit in range(8):
                bad = bytearray(good)
                bad[offset] ^= 1 << bit
                path.write_bytes(bad)
                with pytest.raises(ManifestError) as error:
                    store.verify_manifest()
                assert error.value.offset <= offset < error.value.end
    finally:
        path.write_bytes(good)
    store.verify_manifest()


@settings(max_examples=40)  # each one reads up to 18 MB
@given(st.sampled_from(sorted(SIZES)), st.data())
def test_a_file_that_is_cut_or_longer_is_located(folder, name, data):
    size = data.draw(st.integers(0, SIZES[name] + 9 * MIB).filter(lambda n: n != SIZES[name]))
    path = folder / name
    good = path.read_bytes()
    path.write_bytes((good + b"more" * (9 * MIB // 4 + 1))[:size])
    try:
        with pytest.raises(CheckpointCorruptedError) as error:
            next(c for c in kcp.checkpoints(folder) if c.name == name).verify()
    finally:
        path.write_bytes(good)
    first_wrong = min(size, SIZES[name])
    assert error.value.offset <= first_wrong < error.value.end
