"""Durable bytes: files that are whole or not there, and a record of them. No Keras."""

from keras_callbacks_plus.storage.atomic import Payload as Payload
from keras_callbacks_plus.storage.atomic import Sink as Sink
from keras_callbacks_plus.storage.background import BackgroundWriter as BackgroundWriter
from keras_callbacks_plus.storage.container import FACTORIES as FACTORIES
from keras_callbacks_plus.storage.container import ContainerPayload as ContainerPayload
from keras_callbacks_plus.storage.container import read_container as read_container
from keras_callbacks_plus.storage.filesystem import FileSystem as FileSystem
from keras_callbacks_plus.storage.filesystem import LocalFileSystem as LocalFileSystem
from keras_callbacks_plus.storage.filesystem import private_folder as private_folder
from keras_callbacks_plus.storage.locate import check_url as check_url
from keras_callbacks_plus.storage.locate import filesystem_for as filesystem_for
from keras_callbacks_plus.storage.locate import is_url as is_url
from keras_callbacks_plus.storage.locate import split_path as split_path
from keras_callbacks_plus.storage.manifest import CheckpointRecord as CheckpointRecord
from keras_callbacks_plus.storage.manifest import LedgerLine as LedgerLine
from keras_callbacks_plus.storage.rebuild import rebuilt_records as rebuilt_records
from keras_callbacks_plus.storage.remote import RemoteFileSystem as RemoteFileSystem
from keras_callbacks_plus.storage.run_snapshot import FORMAT as FORMAT
from keras_callbacks_plus.storage.run_snapshot import SERIES as SERIES
from keras_callbacks_plus.storage.run_snapshot import check_snapshot as check_snapshot
from keras_callbacks_plus.storage.store import MANIFEST as MANIFEST
from keras_callbacks_plus.storage.store import CheckpointStore as CheckpointStore
from keras_callbacks_plus.storage.versions import versions as versions

__all__ = [
    "BackgroundWriter",
    "CheckpointRecord",
    "CheckpointStore",
    "ContainerPayload",
    "FACTORIES",
    "FORMAT",
    "FileSystem",
    "LedgerLine",
    "LocalFileSystem",
    "MANIFEST",
    "Payload",
    "RemoteFileSystem",
    "Sink",
    "check_url",
    "filesystem_for",
    "is_url",
    "read_container",
    "rebuilt_records",
    "split_path",
    "private_folder",
    "versions",
]
