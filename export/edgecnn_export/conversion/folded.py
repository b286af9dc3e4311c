"""A folded model as one value: what every conversion of it shares."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from edgecnn.errors import ConversionError
from edgecnn_export.conversion.annotation import Annotation, annotate
from edgecnn_export.conversion.graph import Graph, Step, has_graph, read_graph

DEEP = 20  # layers with weights: what rounding shifts in each adds to what it shifted in those before


@dataclass(frozen=True, eq=False)
class Folded:
    """A model that `fold` made, its steps, and where it is quantized.

    `graph` is None for a subclassed model, whose steps cannot be seen; `annotation` is None as well where it isn't known how
    a layer quantizes: the converters' own calibrators then have to do. A change of the model's weights shows at once.
    """

    model: keras.Model
    graph: Graph | None
    annotation: Annotation | None

    @classmethod
    def of(cls, model: keras.Model) -> Folded:
        """Look at the steps of a model that is folded already."""
        if not has_graph(model):
            return cls(model, None, None)
        graph = read_graph(model)
        return cls(model, graph, annotate(graph))

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.model.name)

    @property
    def steps(self) -> list[Step]:
        """The calls of layers, in order; none of a subclassed model."""
        return [] if self.graph is None else self.graph.steps

    @property
    def measured(self) -> tuple[str, ...]:
        """The layers that need a measured range; none where it isn't known how the model quantizes."""
        return () if self.annotation is None else self.annotation.measured

    @property
    def is_deep(self) -> bool:
        """True for enough layers with weights that a plain rounding to int8 shifts the answers."""
        weighted = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
        return sum(isinstance(step.operation, weighted) for step in self.steps) >= DEEP

    def annotated(self) -> tuple[Graph, Annotation]:
        """Return the steps and where they are quantized; ConversionError when that is not known."""
        if self.graph is None or self.annotation is None:
            raise ConversionError(f"model {self.name!r} has layers that cannot be quantized by ranges")
        return self.graph, self.annotation

    def copy(self) -> Folded:
        """Return the same model with weights of its own."""
        copy = keras.models.clone_model(self.model)
        copy.set_weights(self.model.get_weights())
        copy.trainable = False
        return Folded.of(copy)
