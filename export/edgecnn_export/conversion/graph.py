"""A Keras model as a plain list of steps, nested models unrolled: the form in which it is folded, measured and quantized."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from edgecnn.errors import ConversionError

Arguments = tuple[tuple[Any, ...], dict[str, Any]]  # of a call: by place, and by name


class Value:
    """One tensor of the graph, compared by identity; `shape` has None for the batch.

    `origin` counts the tensors of the model that the graph was read from: it tells which of them a tensor of a changed graph
    still equals, None where it equals none.
    """

    def __init__(self, shape: tuple[int | None, ...], dtype: str = "float32", origin: int | None = None) -> None:
        """Take the shape and dtype that Keras inferred."""
        self.shape = shape
        self.dtype = dtype
        self.origin = origin


@dataclass(eq=False)
class Step:
    """One call of a layer or of a bare operation; Values stand for tensors in `arguments` and `keywords`.

    `name` is the layer's, numbered where nested models or bare operations use one name for several; the calls of a shared
    layer share it.
    """

    operation: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    outputs: list[Value]
    name: str

    @property
    def inputs(self) -> list[Value]:
        """The tensors that the call takes, in order."""
        return [leaf for leaf in keras.tree.flatten((self.arguments, self.keywords)) if isinstance(leaf, Value)]

    @property
    def output(self) -> Value:
        """The tensor that the call gives; models of several outputs per layer stand in no step that is looked into."""
        return self.outputs[0]


@dataclass(eq=False)
class Graph:
    """Steps in an order in which they can be run, from one input to one output."""

    input: Value
    output: Value
    steps: list[Step]

    def consumers(self, value: Value) -> list[Step]:
        """Return the steps that take `value`."""
        return [step for step in self.steps if any(taken is value for taken in step.inputs)]

    def producer(self, value: Value) -> Step | None:
        """Return the step that gives `value`, None for the input."""
        return next((step for step in self.steps if any(given is value for given in step.outputs)), None)

    def only_consumer(self, value: Value) -> Step | None:
        """Return the step that takes `value` when it is the only one and `value` is not the model's answer."""
        taking = self.consumers(value)
        return taking[0] if len(taking) == 1 and value is not self.output else None

    def calls(self, operation: Any) -> int:
        """Count the steps that call `operation`: more than one for a shared layer."""
        return sum(step.operation is operation for step in self.steps)

    def remove(self, step: Step) -> None:
        """Take a step of one input out: what took its output takes its input instead."""
        (before,) = step.inputs
        self.steps.remove(step)
        for other in self.steps:
            other.arguments, other.keywords = _replaced((other.arguments, other.keywords), step.output, before)
        if self.output is step.output:
            self.output = before

    def insert_before(self, step: Step, operation: Any, name: str) -> Step:
        """Let a new step take what `step` took, one tensor, and `step` take what the new one gives; return the new one."""
        (value,) = step.inputs
        new = Step(operation, (value,), {}, [Value(value.shape)], name)
        self.steps.insert(self.steps.index(step), new)
        step.arguments, step.keywords = _replaced((step.arguments, step.keywords), value, new.output)
        return new

    def run(self, image: Any, call: Callable[[Step, tuple[Any, ...], dict[str, Any]], Any]) -> Any:
        """Run the steps with `call(step, arguments, keywords)` and return what it gave for the output.

        What no later step takes is let go: all activations of a deep network at once are gigabytes.
        """
        known: dict[int, Any] = {id(self.input): image}
        last = {id(value): at for at, step in enumerate(self.steps) for value in _taken(step)}

        def fill(leaf: Any) -> Any:
            return known[id(leaf)] if isinstance(leaf, Value) else leaf

        for at, step in enumerate(self.steps):
            arguments, keywords = keras.tree.map_structure(fill, (step.arguments, step.keywords))
            results = keras.tree.flatten(call(step, arguments, keywords))
            known.update({id(value): result for value, result in zip(step.outputs, results, strict=True)})
            for value in (*_taken(step), *step.outputs):
                if last.get(id(value), at) <= at and value is not self.output:
                    known.pop(id(value), None)
        return known[id(self.output)]

    def run_in_blocks(
        self,
        blocks: Sequence[Any],
        call: Callable[[Step, tuple[Any, ...], dict[str, Any]], Any],
        prepare: Callable[[Step, list[Arguments]], None],
    ) -> list[Any]:
        """Run each step on all blocks of pictures before the next one; return the blocks of the output.

        `prepare(step, taken)` comes before the calls of a step, with the arguments of each block, and may change its layer by
        them. Blocks that no other step takes are let go one by one, so that no step holds what it takes and gives as a whole.
        """

        def all_blocks(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            taken = [leaf for leaf in keras.tree.flatten((arguments, keywords)) if isinstance(leaf, _Blocks)]
            prepare(step, [_of_block(arguments, keywords, at) for at in range(len(blocks))])
            used_up = [each for each, value in zip(taken, step.inputs, strict=True) if self.only_consumer(value) is step]
            given = [_Blocks([]) for _ in step.outputs]
            for at in range(len(blocks)):
                results = keras.tree.flatten(call(step, *_of_block(arguments, keywords, at)))
                for output, result in zip(given, results, strict=True):
                    output.values.append(result)
                for each in used_up:
                    each.values[at] = None
            return given

        return list(self.run(_Blocks(list(blocks)), all_blocks).values)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """A tensor of many pictures as `values` of a few each, in order; None for what nobody takes any more."""

    values: list[Any]


def _of_block(arguments: tuple[Any, ...], keywords: dict[str, Any], at: int) -> Arguments:
    """Return what a step takes of one block."""

    def own(leaf: Any) -> Any:
        return leaf.values[at] if isinstance(leaf, _Blocks) else leaf

    found: Arguments = keras.tree.map_structure(own, (arguments, keywords))
    return found


def _taken(step: Step) -> list[Value]:
    """Return the values that a step takes."""
    return [leaf for leaf in keras.tree.flatten((step.arguments, step.keywords)) if isinstance(leaf, Value)]


def has_graph(model: keras.Model) -> bool:
    """True for Sequential and Functional models, False for subclassed ones, whose steps cannot be seen."""
    return isinstance(model, keras.Sequential) or hasattr(model, "_nodes_by_depth")


def read_graph(model: keras.Model) -> Graph:
    """Unroll a built Sequential or Functional model.

    Raises ConversionError when it has several inputs or outputs.
    """
    functional = _functional(model)
    if len(functional.inputs) != 1 or len(functional.outputs) != 1:
        raise ConversionError(
            f"model {model.name!r} has {len(functional.inputs)} inputs and {len(functional.outputs)} outputs; "
            "a classifier has one of each"
        )
    start = _value(functional.inputs[0])
    steps: list[Step] = []
    (end,) = _unroll(functional, [start], steps)
    _name_apart(steps)
    for origin, value in enumerate([start, *(value for step in steps for value in step.outputs)]):
        value.origin = origin
    return Graph(start, end, steps)


def numbered(name: str, taken: Container[str]) -> str:
    """Return the name, with a number behind it when it is taken."""
    count, unique = 1, name
    while unique in taken:
        count, unique = count + 1, f"{name}_{count}"
    return unique


def _value(tensor: Any) -> Value:
    return Value(tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype))


def _name_apart(steps: list[Step]) -> None:
    names: dict[int, str] = {}
    for step in steps:
        if id(step.operation) not in names:
            names[id(step.operation)] = numbered(step.name, names.values())
        step.name = names[id(step.operation)]


def _unroll(model: Any, inputs: list[Value], steps: list[Step]) -> list[Value]:
    """Append the steps of a functional model that is called on `inputs`; return its outputs."""
    known = {id(tensor): value for tensor, value in zip(model.inputs, inputs, strict=True)}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            arguments, keywords = node.arguments.fill_in(known)
            if "training" in keywords:  # whatever was stated when it was built: a prediction overrules it, layer by layer
                keywords = keywords | {"training": False}
            if isinstance(node.operation, keras.Model) and has_graph(node.operation):
                inner = [leaf for leaf in keras.tree.flatten((arguments, keywords)) if isinstance(leaf, Value)]
                values = _unroll(_functional(node.operation), inner, steps)
            else:
                values = [_value(tensor) for tensor in node.outputs]
                steps.append(Step(node.operation, arguments, keywords, values, str(node.operation.name)))
            known.update({id(tensor): value for tensor, value in zip(node.outputs, values, strict=True)})
    return [known[id(tensor)] for tensor in model.outputs]


def _functional(model: keras.Model) -> Any:
    """Return the functional model behind a Sequential one, or the model itself."""
    if not isinstance(model, keras.Sequential):
        return model
    if not model.built or not model.inputs:
        raise ConversionError(f"model {model.name!r} has no input shape yet; build it or call it on a picture first")
    return keras.Model(model.inputs, model.outputs)


def _replaced(structure: Any, old: Value, new: Value) -> Any:
    return keras.tree.map_structure(lambda leaf: new if leaf is old else leaf, structure)
