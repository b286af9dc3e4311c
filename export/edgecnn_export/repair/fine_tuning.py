"""Last technique: a short training in which the network feels the rounding, and learns to answer as it did in floats."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgecnn_export.conversion.calibration import Calibration, Ranges
from edgecnn_export.conversion.convert import Quantization
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.graph import Graph, Step
from edgecnn_export.conversion.simulation import RoundedModel, kernel_of, largest_weights
from edgecnn_export.repair.context import RepairContext

EPOCHS = 3
BATCH = 16
LEARNING_RATE = 1e-3  # in units of a channel's largest weight: an eighth of a level of int8 a step
_PICTURES = 600


def fine_tune(context: RepairContext) -> Quantization:
    """Fine-tune the closest model so far on training pictures, its ranges held; labels are not needed."""
    folded, calibration = context.closest()
    tuned = tuned_copy(folded, calibration, context)
    record = context.calibration(calibration.ranges, f"{calibration.method}, fine-tuned for {EPOCHS} epochs")
    context.offer(tuned, record)
    return Quantization(tuned, record)


def tuned_copy(folded: Folded, calibration: Calibration, context: RepairContext) -> Folded:
    """Return a model whose int8 answers were trained towards the float model's on training pictures.

    Rounding is passed by gradients as if it were not there (Jacob et al., CVPR 2018, section 3), the targets are the float
    model's probabilities (Hinton, Vinyals and Dean, arXiv:1503.02531). Normalisations stay folded, as they were.
    """
    images = context.pictures.images[:: -(-len(context.pictures) // _PICTURES)]
    targets = context.answers(images)
    training = _Training(folded.copy(), calibration.ranges, steps=EPOCHS * (len(images) // min(BATCH, len(images))))
    for epoch in range(EPOCHS):
        order = np.random.default_rng((context.seed, epoch)).permutation(len(images))
        losses = [
            training.step(images[chosen].astype(np.float32), targets[chosen])
            for chosen in np.array_split(order, max(1, len(order) // BATCH))
        ]
        context.progress(f"fine-tuning: epoch {epoch + 1} of {EPOCHS}, cross-entropy {np.mean(losses):.4f}")
    return training.folded


class _Training:
    """Adam on weights and biases, each in a unit of its own: channels of small weights take small steps."""

    def __init__(self, folded: Folded, ranges: Ranges, steps: int) -> None:
        self.folded, self._rounded = folded, RoundedModel(folded, ranges)
        units = _units(self._rounded.graph, ranges)
        self._variables, self._units = [variable for variable, _ in units], [unit for _, unit in units]
        self._start = [variable.numpy() for variable in self._variables]
        self._moves = [keras.Variable(np.zeros(start.shape, np.float32)) for start in self._start]
        self._optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, max(steps, 1)))
        self._optimizer.build(self._moves)
        self._compute = tf.function(self._loss_and_gradients, autograph=False, reduce_retracing=True)

    def step(self, pixels: NDArray[np.float32], targets: NDArray[np.float32]) -> float:
        """Take one step on pixels `(n, h, w, c)` and the float model's answers `(n, classes)`; return the cross-entropy."""
        loss, gradients = self._compute(tf.constant(pixels), tf.constant(targets))
        self._optimizer.apply([gradient * unit for gradient, unit in zip(gradients, self._units, strict=True)], self._moves)
        for variable, start, unit, move in zip(self._variables, self._start, self._units, self._moves, strict=True):
            variable.assign(start + unit * move.numpy())
        return float(loss)

    def _loss_and_gradients(self, pixels: Any, targets: Any) -> Any:
        values = [variable.value for variable in self._variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            answers = self._rounded.answer(pixels, to_the_end=False)
            loss = -tf.reduce_mean(tf.reduce_sum(targets * tf.math.log(answers + 1e-7), axis=1))
        return loss, tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _units(graph: Graph, ranges: Ranges) -> list[tuple[Any, NDArray[np.float32]]]:
    """Return the variables to train, each with its unit: a channel's largest weight, and for biases the range of the output."""
    units: list[tuple[Any, NDArray[np.float32]]] = []
    for step in graph.steps:
        layer, kernel = step.operation, kernel_of(step.operation)
        if kernel is None or graph.calls(layer) != 1:
            continue
        units.append((kernel, np.asarray(largest_weights(kernel.value, type(layer)), np.float32)))
        limits = ranges.get(step.name) or ranges.get(_follower(graph, step))
        if getattr(layer, "bias", None) is not None and limits is not None:
            units.append((layer.bias, np.array(limits[1] - limits[0], np.float32)))
    return units


def _follower(graph: Graph, step: Step) -> str:
    """Name the ReLU that a layer's range stands at where the two are fused."""
    follower = graph.only_consumer(step.output)
    return "" if follower is None else follower.name
