"""What a `tf.data` pipeline is made of, and which of it no replay can bring back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ENDLESS = -1  # tf.data.INFINITE_CARDINALITY

# Steps of a pipeline whose output is a function of their input and of seeds. The rest of them
# (`_VariantDataset`, what another package made) is not known. Each is in
# https://github.com/tensorflow/tensorflow/tree/v2.21.0/tensorflow/python/data/ops
_KNOWN_STEPS = _names(
    """Batch Cache Concatenate DenseToRagged DenseToSparseBatch DirectedInterleave Filter
    FixedLengthRecord FlatMap Generator GroupByWindow IgnoreErrors Interleave Load Map
    Options PaddedBatch ParallelBatch ParallelInterleave ParallelMap Prefetch Random Range
    Rebatch Repeat Restructured Scan Shard Shuffle Skip SparseTensorSlice Take TakeWhile
    Tensor TensorSlice TextLine TFRecord Unbatch Unique Window Zip"""
)

# Operations with a state, or an effect, that does not change what they give.
_HARMLESS = _names(
    """Assert Case If LookupTableFind LookupTableFindV2 LookupTableSize LookupTableSizeV2
    PartitionedCall Placeholder Print PrintV2 ReadVariableOp StatefulPartitionedCall
    StatelessIf VarHandleOp While"""
)

# They begin anew with each iterator, from a seed that is fixed when the dataset is made.
_SEEDED = _names(
    """Multinomial ParameterizedTruncatedNormal RandomGamma RandomPoisson RandomPoissonV2
    RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt
    SampleDistortedBoundingBox SampleDistortedBoundingBoxV2 TruncatedNormal"""
)


def dataset_doubts(dataset: Any, *, from_its_beginning: bool = False) -> list[str]:
    """What of a `tf.data.Dataset` may not be the same when it is read again.

    It has no public description of itself: `_inputs()` and `_functions()` are read, and the
    operations in the functions, those of nested functions included
    (https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/python/data/ops/dataset_ops.py).

    With `from_its_beginning`, all that was read of an endless dataset is going to be read again.
    Gives a phrase for each doubt; none where everything in it is known.
    """
    if from_its_beginning and int(dataset.cardinality()) != _ENDLESS:
        from_its_beginning = False
    return list(dict.fromkeys(_doubts(dataset, from_its_beginning)))


def _doubts(dataset: Any, from_its_beginning: bool) -> Iterator[str]:
    step = _step(dataset)
    if step not in _KNOWN_STEPS:
        yield f"a step ({type(dataset).__name__}) that is not known to be the same each time"
        return
    options = dataset.options()
    if options.deterministic is False or getattr(dataset, "_deterministic", "") == "false":
        yield "`deterministic=False`, which lets batches come in any order"
    parallel = step.startswith("Parallel")
    for function in dataset._functions():
        for operation in _operations(function.function.graph):
            yield from _doubts_of_operation(operation, parallel)
    inputs = list(dataset._inputs())
    again = not from_its_beginning and step in ("Cache", "Repeat")
    if again and any(_changes(one) for one in inputs):
        place = "`.cache()`" if step == "Cache" else "`.repeat()`"
        yield (
            f"{place} after a step that gives another order each time it is read (write it before "
            "that step)"
        )
    for one in inputs:
        yield from _doubts(one, from_its_beginning)


def _step(dataset: Any) -> str:
    name = type(dataset).__name__.strip("_")
    return name.partition("Dataset")[0] if "Dataset" in name else name


def _changes(dataset: Any) -> bool:
    """Whether each iterator over a dataset gives another order."""
    step = _step(dataset)
    if step in ("Shuffle", "Random"):
        return getattr(dataset, "_reshuffle_each_iteration", True) is not False
    return any(_changes(one) for one in dataset._inputs())


def _operations(graph: Any) -> Iterator[Any]:
    """The operations of a graph and of every function that it calls."""
    yield from graph.get_operations()
    for function in graph._functions.values():
        inner = getattr(function, "graph", None)
        if inner is not None:
            yield from _operations(inner)


def _doubts_of_operation(operation: Any, parallel: bool) -> Iterator[str]:
    name = operation.type
    if "PyFunc" in name or "GeneratorDataset" in name:
        yield "Python code (`from_generator`, `py_function`), which may hold state of its own"
    elif "ShuffleDataset" in name:
        yield "a shuffle inside of a function of the pipeline"
    elif not operation.op_def.is_stateful or name in _HARMLESS or "Dataset" in name:
        return
    elif name in _SEEDED:
        if parallel:
            yield f"random numbers ({name}) that are drawn by several threads"
    else:
        yield f"an operation ({name}) with state of its own (a generator, a layer, a variable)"
