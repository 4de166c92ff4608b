"""From a `filepath` with placeholders to the folder, the series and the names of the files."""

from __future__ import annotations

import math
import os
import re
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.storage import filesystem_for, is_url, split_path

__all__ = ["CheckpointName"]

_ENDINGS = re.compile(r"(\.(weights|keras|h5|hdf5|ckpt|tf))+$", re.IGNORECASE)


@dataclass(frozen=True)
class CheckpointName:
    """A parsed `filepath` of `ModelCheckpoint`.

    Attributes:
        directory: The folder of the files and their manifest.
        template: The name inside it, with placeholders; it also names the series in the manifest.
    """

    directory: str
    template: str

    @classmethod
    def parse(cls, filepath: object, *, weights_only: bool) -> CheckpointName:
        """Checks what the user gave.

        Args:
            filepath: String or path, as Keras has it.
            weights_only: Whether only weights are saved, which decides the ending.

        Raises:
            InvalidArgumentError: If it is not acceptable; the message has the line to type.
            MissingExtraError: If it is a URL, and what writes there is not installed.
        """
        if not isinstance(filepath, str | os.PathLike) or not os.fspath(filepath):
            raise InvalidArgumentError(
                "filepath", filepath, "a path", 'Pass a string such as "runs/a/{epoch:02d}.keras".'
            )
        path = str(os.fspath(filepath))
        directory, template = split_path("filepath", filepath)
        _check_ending(path, template, weights_only)
        _check_placeholders(path, template)
        if "{" in directory:
            raise InvalidArgumentError(
                "filepath",
                path,
                "a path whose folder has no placeholder (one manifest keeps the whole folder)",
                f"Put the placeholders into the file's name: {template!r} in a fixed folder.",
            )
        filesystem_for(directory)
        return cls(directory or ".", template)

    @property
    def identity(self) -> tuple[str, str]:
        """The same for the same files, however their folder is spelt."""
        if is_url(self.directory):
            return self.directory.rstrip("/"), self.template
        return os.path.realpath(self.directory), self.template

    @property
    def is_fixed(self) -> bool:
        """Whether every save has the same name, so that a new one replaces the old one."""
        return not any(field for _, field, _, _ in string.Formatter().parse(self.template))

    def path_of(self, name: str) -> str:
        """The path or URL of one file.

        Args:
            name: What `format` returned.
        """
        return filesystem_for(self.directory).join(self.directory, name)

    def has(self, placeholder: str) -> bool:
        """Whether a placeholder is in the name."""
        return any(f == placeholder for _, f, _, _ in string.Formatter().parse(self.template))

    def format(
        self,
        epoch: int,
        batch: int | None,
        metrics: Mapping[str, float],
        validated: Collection[str] = (),
    ) -> str:
        """The name of one file.

        Args:
            epoch: The epoch, counted from 0; the name counts from 1, as Keras's does.
            batch: The batch, counted from 0, or `None` at the end of an epoch.
            metrics: What was logged.
            validated: The validation metrics that were ever logged; empty before the first
                validation.

        Returns:
            The name. A validation metric that was not computed this time is written as `nan`.

        Raises:
            InvalidArgumentError: If a placeholder is not the name of anything that is logged.
        """
        values = self._values(epoch, batch, metrics)
        for field in self._missing(values):
            if field not in validated and (validated or not field.startswith("val_")):
                logged = sorted({*values, *validated})
                raise InvalidArgumentError(
                    "filepath",
                    self.template,
                    "a name whose placeholders are logged",
                    f"There is no {field!r}; there are: {', '.join(logged)}.",
                )
        return self._filled(values)

    def format_unmeasured(self, epoch: int, batch: int, metrics: Mapping[str, float]) -> str:
        """The name of the file of a model that nobody has measured: `nan` stands for what is not
        known.

        Args:
            epoch: As for `format`.
            batch: As for `format`.
            metrics: What is known.
        """
        return self._filled(self._values(epoch, batch, metrics))

    def _values(
        self, epoch: int, batch: int | None, metrics: Mapping[str, float]
    ) -> dict[str, object]:
        values: dict[str, object] = {k: float(v) for k, v in metrics.items()}
        values["epoch"] = epoch + 1
        if batch is not None:
            values["batch"] = batch + 1
        return values

    def _missing(self, values: Mapping[str, object]) -> list[str]:
        fields = (field for _, field, _, _ in string.Formatter().parse(self.template))
        return [field for field in fields if field and field not in values]

    def _filled(self, values: dict[str, object]) -> str:
        nothing = dict.fromkeys(self._missing(values), math.nan)
        name = self.template.format(**values, **nothing)
        return name.replace(os.sep, "_").replace("/", "_")


def _check_placeholders(path: str, template: str) -> None:
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template)]
        if "" in fields:
            raise ValueError("a placeholder has no name")
        template.format(**{f: 1 if f in ("epoch", "batch") else 0.5 for f in fields if f})
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise InvalidArgumentError(
            "filepath",
            path,
            f"placeholders that Python can fill in ({error})",
            'Write "{epoch:02d}-{val_loss:.4f}.keras", for one.',
        ) from error


def _check_ending(path: str, template: str, weights_only: bool) -> None:
    stem = _ENDINGS.sub("", path.rstrip("/\\")) or "model"
    whole = template.endswith((".keras", ".h5")) and not template.endswith(".weights.h5")
    if weights_only and not template.endswith(".weights.h5"):
        raise InvalidArgumentError(
            "filepath",
            path,
            "a path that ends in `.weights.h5` with `save_weights_only=True`",
            f'Write "{stem}.weights.h5".',
        )
    if not weights_only and not whole:
        raise InvalidArgumentError(
            "filepath",
            path,
            "a path; it must end in `.keras` (or `.h5`, not `.weights.h5`) for a whole model",
            f'Write "{stem}.keras", or "{stem}.weights.h5" with `save_weights_only=True`.',
        )
