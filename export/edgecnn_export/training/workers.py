"""Training on several machines that share each batch: TensorFlow's MultiWorkerMirroredStrategy, as `TF_CONFIG` describes it.

Keras 3 cannot `fit` under this strategy (keras-team/keras, issue 20585): 3.15 gives a tuple of per-replica values to
`strategy.reduce`, and asks it for the mean of numbers over an axis that they do not have. Its `train_step` and `test_step` are
sound, and are run here by the strategy itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import ClusterError, InputError

VARIABLE = "TF_CONFIG"
_EXAMPLE = '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}'
_Batches = Sequence[tuple[NDArray[Any], ...]]


class Watch(Protocol):
    """What a loop over batches tells: a Keras callback."""

    def set_model(self, model: keras.Model) -> None:
        """Take the model, whose `stop_training` it may set."""

    def on_train_batch_end(self, batch: int) -> None:
        """Hear that batch `batch`, counted from 0, is done."""

    def on_train_end(self) -> None:
        """Hear that all are done."""


class Loop(Protocol):
    """How a compiled model goes through batches."""

    def train(self, model: keras.Model, batches: Any, watch: Any) -> dict[str, float]:
        """Train on all batches; return loss and metrics over them."""

    def evaluate(self, model: keras.Model, batches: Any) -> dict[str, float]:
        """Return loss and metrics over all batches."""


class KerasLoop:
    """Keras' own loops."""

    def train(self, model: keras.Model, batches: Any, watch: Any) -> dict[str, float]:
        """Train on all batches; return loss and metrics over them."""
        fitted = model.fit(batches, verbose=0, shuffle=False, callbacks=[watch])
        return {name: float(values[-1]) for name, values in fitted.history.items()}

    def evaluate(self, model: keras.Model, batches: Any) -> dict[str, float]:
        """Return loss and metrics over all batches."""
        figures = model.evaluate(batches, verbose=0, return_dict=True)
        return {name: float(value) for name, value in figures.items()}


@dataclass(frozen=True)
class Cluster:
    """The workers of a training, by their addresses, and which of them this process is."""

    addresses: tuple[str, ...]
    index: int

    @classmethod
    def stated(cls) -> Cluster | None:
        """Read TF_CONFIG; None where it states no more than one worker. InputError where it is malformed."""
        text = os.environ.get(VARIABLE, "")
        if not text.strip():
            return None
        try:
            stated = json.loads(text)
            kinds, task = dict(stated.get("cluster", {})), dict(stated.get("task", {}))
            chiefs, workers = list(kinds.pop("chief", [])), list(kinds.pop("worker", []))
            addresses, kind, index = (*chiefs, *workers), task.get("type", "worker"), int(task.get("index", 0))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{VARIABLE} is malformed ({error}); expected such as {_EXAMPLE}") from error
        if len(addresses) < 2 and not kinds:
            return None
        own = index + (len(chiefs) if kind == "worker" else 0)
        if kinds or kind not in ("chief", "worker") or not all(isinstance(each, str) for each in addresses):
            raise InputError(f"{VARIABLE} names {', '.join(kinds) or kind}; a training has workers only: {_EXAMPLE}")
        if not 0 <= own < len(addresses):
            raise InputError(f"{VARIABLE} says that this is {kind} {index} of {len(addresses)} workers; indices begin at 0")
        return cls(addresses, own)

    def check(self, batch_size: int, *, minutes: float | None, teacher: bool, resume: bool) -> None:
        """Raise InputError for a training that workers cannot share."""
        if batch_size % len(self.addresses):
            raise InputError(
                f"a batch of {batch_size} pictures cannot be shared by {len(self.addresses)} workers; --batch-size"
            )
        refused = {"--minutes (each worker would count for itself)": minutes is not None, "--resume": resume}
        refused |= {"a teacher: --network lite, or compact with --teacher none": teacher}
        if found := next((name for name, given in refused.items() if given), None):
            raise InputError(f"the workers of {VARIABLE} train without {found}")


class SharedLoop:
    """The loops of one of several workers: each trains on its own part of every batch, their gradients are summed."""

    def __init__(self, strategy: Any, cluster: Cluster) -> None:
        """Take the strategy under whose scope the model is made."""
        self._strategy, self._cluster = strategy, cluster
        self._steps: dict[tuple[int, str], Callable[..., None]] = {}

    def train(self, model: keras.Model, batches: Any, watch: Watch) -> dict[str, float]:
        """Train on all batches; return loss and metrics over them. ClusterError when another worker goes away."""
        watch.set_model(model)
        model.stop_training = False
        with _one_line(self._cluster):
            self._reset(model, batches)
            for number in range(len(batches)):
                self._step(model, "train_step")(*(self._part(each) for each in batches[number]))
                watch.on_train_batch_end(number)
                if model.stop_training:
                    break
            watch.on_train_end()
            return _figures(model)

    def evaluate(self, model: keras.Model, batches: Any) -> dict[str, float]:
        """Return loss and metrics over all batches, of which each worker sees all."""
        with _one_line(self._cluster):
            self._reset(model, batches)
            for number in range(len(batches)):
                self._step(model, "test_step")(*batches[number])
            return _figures(model)

    def _part(self, batch: NDArray[Any]) -> NDArray[Any]:
        size = len(batch) // len(self._cluster.addresses)
        return batch[self._cluster.index * size : (self._cluster.index + 1) * size]

    def _reset(self, model: keras.Model, batches: _Batches) -> None:
        with self._strategy.scope():
            # What `fit` does first: the variables of metrics are made outside of the replicas.
            model._symbolic_build(data_batch=batches[0])
        model.reset_metrics()

    def _step(self, model: keras.Model, name: str) -> Callable[..., None]:
        import tensorflow as tf

        def step(*batch: Any) -> None:
            self._strategy.run(lambda *own: _nothing(getattr(model, name)(own)), args=batch)

        if (id(model), name) not in self._steps:
            self._steps[id(model), name] = tf.function(step, reduce_retracing=True)
        return self._steps[id(model), name]


def _figures(model: keras.Model) -> dict[str, float]:
    return {name: float(np.asarray(value)) for name, value in model.get_metrics_result().items()}


def _nothing(_: Any) -> None:
    """Return nothing of a step: the metrics keep it."""


@contextmanager
def _one_line(cluster: Cluster) -> Iterator[None]:
    import tensorflow as tf

    lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError, tf.errors.CancelledError)
    try:
        yield
    except tf.errors.OpError as error:
        # What another worker was asked for fails as what its connection failed with: UNKNOWN, INTERNAL.
        if not isinstance(error, lost) and "Collective" not in str(error):
            raise
        raise ClusterError(f"another worker of {', '.join(cluster.addresses)} went away; start all of them again") from error
