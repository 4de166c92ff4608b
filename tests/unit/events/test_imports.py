"""Layer 2 needs neither Keras nor TensorFlow nor a protocol buffer library in memory."""

import subprocess
import sys

SCRIPT = """
import sys, tempfile
from keras_callbacks_plus.events import EventFileWriter, holds_events_from, trim
from keras_callbacks_plus.storage.filesystem import LocalFileSystem
folder = tempfile.mkdtemp()
writer = EventFileWriter(folder, run="a", first_step=0, file_system=LocalFileSystem())
writer.write_scalars(0, {"loss": 1.0}, wall_time=0.0)
writer.close()
assert holds_events_from(folder, 0)
assert trim(folder, "a", -1, LocalFileSystem())
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"tensorflow", "keras", "jax", "torch", "tensorboard", "google"}))
"""


def test_writing_and_trimming_import_no_library():
    command = [sys.executable, "-c", SCRIPT]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.stdout == "[]\n", result.stderr
