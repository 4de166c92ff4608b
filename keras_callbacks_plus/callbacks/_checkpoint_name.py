"""From a `filepath` with placeholders to the folder, the series and the names of the files."""

from __future__ import annotations

import itertools
import math
import os
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.storage import filesystem_for, split_path

__all__ = ["CheckpointName", "check_keep", "versions"]


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
        missing: float | None = None,
    ) -> str:
        """The name of one file.

        Args:
            epoch: The epoch, counted from 0; the name counts from 1, as Keras's does.
            batch: The batch, counted from 0, or `None` at the end of an epoch.
            metrics: What was logged.
            missing: Stands for any metric that was not; `None` makes that an error.

        Returns:
            The name. A validation metric that was not computed this time is written as `nan`.

        Raises:
            InvalidArgumentError: If a placeholder is not the name of anything that is logged.
        """
        values: dict[str, object] = {k: float(v) for k, v in metrics.items()}
        values["epoch"] = epoch + 1
        if batch is not None:
            values["batch"] = batch + 1
        for _, field, _, _ in string.Formatter().parse(self.template):
            if field and field not in values:
                if missing is None and not field.startswith("val_"):
                    raise InvalidArgumentError(
                        "filepath",
                        self.template,
                        "a name whose placeholders are logged",
                        f"There is no {field!r}; there are: {', '.join(sorted(values))}.",
                    )
                values[field] = math.nan
        return self.template.format(**values).replace(os.sep, "_").replace("/", "_")


def versions(name: str) -> Iterator[str]:
    """A name, and then the same with `-v1`, `-v2`, ... before its ending."""
    yield name
    ending = ".weights.h5" if name.endswith(".weights.h5") else os.path.splitext(name)[1]
    for number in itertools.count(1):
        yield f"{name.removesuffix(ending)}-v{number}{ending}"


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
    stem = template
    for ending in (".weights.h5", ".keras", ".h5", ".hdf5", ".ckpt", ".tf"):
        stem = stem.removesuffix(ending)
    wanted = ".weights.h5" if weights_only else ".keras"
    if weights_only and not template.endswith(".weights.h5"):
        raise InvalidArgumentError(
            "filepath",
            path,
            "a path that ends in `.weights.h5` with `save_weights_only=True`",
            f'Write "{path.removesuffix(template) + stem + wanted}".',
        )
    if not weights_only and not template.endswith((".keras", ".h5")):
        raise InvalidArgumentError(
            "filepath",
            path,
            "a path; it must end in `.keras` (or `.h5`) for a whole model",
            f'Write "{path.removesuffix(template) + stem + wanted}", or pass '
            "`save_weights_only=True` with a name that ends in `.weights.h5`.",
        )


def check_keep(
    keep: object, max_to_keep: Any, name: CheckpointName, filepath: str, unit: str
) -> None:
    """Raises for a retention that is said twice or is none, and for a name that does not fit.

    Args:
        keep: As the user gave it.
        max_to_keep: As the user gave it.
        name: The parsed `filepath`.
        filepath: As the user gave it.
        unit: What `save_freq` counts.
    """
    if unit == "epochs" and name.has("batch"):
        raise InvalidArgumentError(
            "filepath",
            filepath,
            "a name without `{batch}`, as `save_freq` counts epochs",
            "Leave `{batch}` out, or write save_freq=500 to save by batches.",
        )
    if keep is not None and max_to_keep is not None:
        raise InvalidArgumentError(
            "keep",
            keep,
            "given without `max_to_keep`, as the two say the same thing",
            f"Leave out `max_to_keep={max_to_keep}`, or `keep`.",
        )
    if keep is not None and not callable(getattr(keep, "decide", None)):
        raise InvalidArgumentError(
            "keep",
            keep,
            "a retention policy",
            "For example `policies.BestN(3) | policies.LatestN(1)`.",
        )
    if max_to_keep is None:
        return
    valid = isinstance(max_to_keep, int) and not isinstance(max_to_keep, bool)
    if not valid or max_to_keep < 1:
        raise InvalidArgumentError(
            "max_to_keep", max_to_keep, "a positive integer or None", "Write 3, for one."
        )
    if max_to_keep > 1 and name.is_fixed:
        raise InvalidArgumentError(
            "filepath",
            filepath,
            f"a name with a placeholder, to keep {max_to_keep} files",
            'Put the epoch into it, as in "model-{epoch:02d}.keras".',
        )
