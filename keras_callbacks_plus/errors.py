"""Every exception and warning that this package raises.

One root, `CallbacksPlusError`. Each concrete error also subclasses the builtin that a user would
catch (`ValueError`, `OSError`, ...) and carries its facts as fields, so that a program can act on
them without parsing the message.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "CallbacksPlusError",
    "InvalidArgumentError",
    "MissingMetricError",
    "UnsupportedKerasError",
    "MissingExtraError",
    "UnsupportedLearningRateError",
    "FitScopeError",
    "StorageError",
    "CheckpointCorruptedError",
    "CheckpointNotFoundError",
    "ManifestError",
    "BackgroundWriteError",
    "ResumeError",
    "RunMismatchError",
    "CallbacksPlusWarning",
    "MissingMetricWarning",
    "CheckpointWarning",
    "InexactResumeWarning",
]


class CallbacksPlusError(Exception):
    """Root of every exception that this package raises."""


class InvalidArgumentError(CallbacksPlusError, ValueError):
    """An argument is not acceptable.

    Args:
        argument: Name of the argument, as the user types it.
        received: The value that was given.
        expected: What would have been accepted, in words.
        fix: What to type instead; a whole sentence.
    """

    def __init__(self, argument: str, received: object, expected: str, fix: str) -> None:
        self.argument = argument
        self.received = received
        self.expected = expected
        self.fix = fix
        super().__init__(f"`{argument}` must be {expected}. Received: {received!r}. {fix}")


class MissingMetricError(CallbacksPlusError, ValueError):
    """The monitored metric is not among the logged ones.

    Args:
        monitor: Name of the metric asked for.
        available: Names of the metrics that were logged.
        hint: What to do; a whole sentence.
    """

    def __init__(self, monitor: str, available: Iterable[str], hint: str = "") -> None:
        self.monitor = monitor
        self.available = tuple(sorted(available))
        names = ", ".join(self.available) or "none"
        super().__init__(
            f"The monitored metric {monitor!r} was not logged. Available metrics: {names}. "
            + (hint or "Set `monitor` to one of them, or add the metric to `compile(metrics=...)`.")
        )


class UnsupportedKerasError(CallbacksPlusError, ImportError):
    """The installed Keras, or the model, is not Keras 3.10 or later."""


class MissingExtraError(CallbacksPlusError, ImportError):
    """An optional dependency that is needed here is not installed.

    Args:
        message: What needs it, and the line to type; whole sentences.
        extra: Name of the extra, as in `pip install "keras-callbacks-plus[extra]"`.
    """

    def __init__(self, message: str, extra: str) -> None:
        self.extra = extra
        super().__init__(message)


class UnsupportedLearningRateError(CallbacksPlusError, TypeError):
    """The optimizer's learning rate cannot be set by a callback."""


class FitScopeError(CallbacksPlusError, RuntimeError):
    """The running `fit` could not be found from a callback's hook."""


class StorageError(CallbacksPlusError, OSError):
    """Reading or writing durable bytes failed.

    Args:
        message: What failed and what to do; whole sentences.
        path: The file or folder concerned.
    """

    def __init__(self, message: str, path: str) -> None:
        self.path = path
        super().__init__(message)


class CheckpointCorruptedError(StorageError):
    """A committed file does not hold the bytes that were committed.

    Args:
        message: What is wrong; a whole sentence.
        path: The damaged file.
        offset: Beginning of the first range of bytes known to hold a wrong one, counted from 0, or
            `None` where only the whole is known to.
        end: End of that range: the first byte after it; `None` where `offset` is.
        suspects: Places of the bytes of that range that would each explain it, if one byte alone is
            wrong. Mostly there is one: what a flipped bit leaves. Empty where it takes more.
    """

    def __init__(
        self,
        message: str,
        path: str,
        offset: int | None = None,
        end: int | None = None,
        suspects: Iterable[int] = (),
    ) -> None:
        self.offset = offset
        self.end = end
        self.suspects = tuple(suspects)
        super().__init__(message, path)


class CheckpointNotFoundError(StorageError):
    """There is no (usable) checkpoint where one was asked for."""


class ManifestError(StorageError):
    """The manifest is damaged, or of a newer format.

    Args:
        message: What is wrong; a whole sentence.
        path: The manifest.
        offset: As in `CheckpointCorruptedError`.
        end: As in `CheckpointCorruptedError`.
        is_newer: Whether it is whole, and of a format that this version does not know.
    """

    def __init__(
        self,
        message: str,
        path: str,
        offset: int | None = None,
        end: int | None = None,
        *,
        is_newer: bool = False,
    ) -> None:
        self.offset = offset
        self.end = end
        self.is_newer = is_newer
        super().__init__(message, path)


class BackgroundWriteError(StorageError):
    """A write in the background failed; the original exception is its `__cause__`."""


class ResumeError(CallbacksPlusError, RuntimeError):
    """The run cannot be resumed."""


class RunMismatchError(ResumeError, ValueError):
    """The run that is starting is not the run that was saved.

    Args:
        message: What differs and what to do; whole sentences.
        differences: One line for each difference.
    """

    def __init__(self, message: str, differences: Iterable[str]) -> None:
        self.differences = tuple(differences)
        super().__init__(message)


class CallbacksPlusWarning(UserWarning):
    """Root of every warning that this package issues."""


class MissingMetricWarning(CallbacksPlusWarning):
    """The monitored metric is not among the logged ones, for now."""


class CheckpointWarning(CallbacksPlusWarning):
    """Something about the stored files is not as expected, and was dealt with."""


class InexactResumeWarning(CallbacksPlusWarning):
    """The resumed run cannot be guaranteed to equal the uninterrupted one."""
