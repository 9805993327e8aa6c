"""What the nodes of a graph say of the numbers that go in and come out: logits or scores, scales of 8 bits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from posepost import _check

from ._graph import Graph
from ._source import is_external, location_of, need

# What a heatmap may pass on its way to the output without becoming, or ceasing to be, a score.
_TRANSPARENT = {
    "Transpose", "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Concat",
    "Resize", "Upsample", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
_GIVES_SCORES = {"Sigmoid", "HardSigmoid", "Softmax", "QLinearSigmoid"}
_GIVES_LOGITS = {"Conv", "ConvTranspose", "QLinearConv", "Gemm", "MatMul", "QLinearMatMul", "BatchNormalization"}
_ARITHMETIC = {"Add": np.add, "Mul": np.multiply, "Sub": np.subtract, "Div": np.divide}
_KEEPS_LOGITS = {*_ARITHMETIC}  # of one value with constants; a score does not survive these


def find_activation(producers: Mapping[str, Any], constants: set[str], output: str) -> tuple[str | None, str]:
    """Whether an output of a graph is logits ("sigmoid"), scores (None) or "unknown", and how that is known."""
    verdicts: dict[str, str | None] = {}
    waiting, seen = [(output, False)], set()
    while waiting:
        value, scaled = waiting.pop()
        if (value, scaled) in seen:
            continue
        seen.add((value, scaled))
        node = producers.get(value)
        if node is None:
            verdicts[f"comes from {value!r}, which no node makes"] = "unknown"
        elif node.op_type in _GIVES_LOGITS:
            verdicts[f"made by {node.op_type}"] = "sigmoid"
        elif node.op_type in _GIVES_SCORES:
            verdicts[f"passed {node.op_type}" + ", then arithmetic" * scaled] = "unknown" if scaled else None
        elif node.op_type in _TRANSPARENT:
            sources = node.input if node.op_type == "Concat" else node.input[:1]
            waiting.extend((source, scaled) for source in sources)
        elif node.op_type in _KEEPS_LOGITS and (operand := _only_operand(node, producers, constants)):
            waiting.append((operand, True))
        else:
            verdicts[f"made by {node.op_type}"] = "unknown"
    why = " and ".join(sorted(verdicts)) or "comes from no node that tells"
    found = set(verdicts.values())
    return (found.pop() if len(found) == 1 else "unknown"), why


def arithmetic_on_pixels(graph: Graph, input_name: str) -> list[Any]:
    """Nodes of arithmetic on its input, before the first layer, of a graph; it may normalize the pixels itself."""
    reached, found = {input_name}, []
    for node in graph.proto.graph.node:
        if not reached & {*node.input}:
            continue
        if node.op_type in (*_KEEPS_LOGITS, "BatchNormalization"):
            found.append(node)
        elif node.op_type not in (*_TRANSPARENT, "Gather"):
            break
        reached |= {*node.output}
    return found


def through_arithmetic(graph: Graph, nodes: Sequence[Any], values: Any) -> Any | None:
    """What (n, channels) values of the input become in such nodes; None where that is not known, as of what normalizes
    whatever it gets (BatchNormalization)."""
    for node in nodes:
        names = [name for name in node.input if name in graph.constants]
        constants = [_array(graph, name) for name in names]
        if any(constant.size not in (1, values.shape[1]) for constant in constants):
            return None
        if len(constants) == 1 and node.op_type in _ARITHMETIC:
            pair = [constants[0] if name == names[0] else values for name in node.input]
            with np.errstate(all="ignore"):
                values = _ARITHMETIC[node.op_type](*pair)
        else:
            return None
    return values


def find_quantization(graph: Graph, heads: Mapping[str, str], required: Sequence[str]) -> dict[str, tuple[float, int]]:
    """Scale and zero point of 8-bit heads, from the QuantizeLinear node that makes them.

    A head whose scale cannot be read is left out where it is not `required`.
    """
    found = {}
    for head, output in heads.items():
        dtype = graph.outputs[output].dtype
        if dtype not in ("uint8", "int8"):
            continue
        node, passed = graph.producers.get(output), {output}
        while node is not None and node.op_type in ("Transpose", "Identity", "Reshape") and node.input:
            node = None if node.input[0] in passed else graph.producers.get(node.input[0])
            passed.update(node.output if node is not None else ())
        scale = _scale(graph, node) if node is not None and node.op_type == "QuantizeLinear" else None
        if scale is not None:
            found[head] = scale
        elif head in required:
            raise ValueError(f"{graph.name}: cannot read the scale of the {dtype} output {output}")
    return found


def input_scale(graph: Graph, name: str) -> tuple[float, int] | None:
    """Scale and zero point of the DequantizeLinear that an input goes to; None where it goes elsewhere."""
    readers = [node for node in graph.proto.graph.node if name in node.input]
    found = {_scale(graph, node) if node.op_type == "DequantizeLinear" else None for node in readers}
    return found.pop() if len(found) == 1 else None


def _scale(graph: Graph, node: Any) -> tuple[float, int] | None:
    """Scale and zero point of a node that quantizes or dequantizes a whole tensor by constants."""
    names = [value for value in node.input[1:3] if value]
    constants = graph.constants
    if not names or any(value not in constants or list(constants[value].dims) not in ([], [1]) for value in names):
        return None
    scale, zero = (_number(graph, value) for value in (*names, "")[:2])
    return scale, int(zero)


def _number(graph: Graph, value: str) -> float:
    """A constant of one number; 0 where there is none."""
    number = float(_array(graph, value)[0]) if value else 0.0
    if not math.isfinite(number):
        raise ValueError(f"{graph.name}: cannot read {value}: it is {number}")
    return number


def _array(graph: Graph, value: str) -> npt.NDArray[np.float64]:
    """The numbers of a constant of the graph, flat, out of external data where they lie there."""
    onnx = need("onnx")
    tensor = graph.constants[value]
    try:
        array = onnx.numpy_helper.to_array(tensor, graph.source.folder or "")
        found: npt.NDArray[np.float64] = array.astype(np.float64).reshape(-1)
    except (onnx.checker.ValidationError, ValueError, TypeError, KeyError, OSError, RuntimeError) as error:
        where = f" from the external data file {location_of(tensor)}" if is_external(tensor) else ""
        raise ValueError(f"{graph.name}: cannot read {value}{where}: {_check.one_line(error)}") from error
    return found


def _only_operand(node: Any, producers: Mapping[str, Any], constants: set[str]) -> str | None:
    """The one operand that is not a constant; it must come first where order matters."""

    def constant(value: str) -> bool:
        return value in constants or (value in producers and producers[value].op_type == "Constant")

    values = [value for value in node.input if not constant(value)]
    in_order = node.op_type in ("Add", "Mul") or values[:1] == list(node.input[:1])
    return values[0] if len(values) == 1 and in_order else None
