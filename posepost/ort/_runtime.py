"""onnxruntime: a model opened, and run once on zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from posepost import _check

from ._graph import Graph
from ._source import load_proto, need
from ._tensors import dims, free_sizes


def open_session(graph: Graph, options: Any, providers: Sequence[Any]) -> Any:
    """The model in onnxruntime. RuntimeError, in its words and on one line, where it cannot load it."""
    onnxruntime = need("onnxruntime")
    model = graph.source.data
    zeros = [value for value in (*graph.proto.graph.input, *graph.proto.graph.output) if _has_zero_size(value)]
    if zeros:  # onnxruntime takes a size of 0 at its word
        model = _without_zero_sizes(graph)
        if graph.source.folder is not None:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", graph.source.folder
            )
    try:
        return onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's own exceptions share no base but Exception
        raise RuntimeError(f"{graph.name}: onnxruntime cannot load the model: {_check.one_line(error)}") from error


def run_on_zeros(graph: Graph, input_name: str, input_shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The shapes of what comes out. RuntimeError, on one line, where onnxruntime cannot run the model."""
    onnxruntime = need("onnxruntime")
    options, run_options = onnxruntime.SessionOptions(), onnxruntime.RunOptions()
    options.log_severity_level = run_options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # one run is not worth it
    session = open_session(graph, options, ["CPUExecutionProvider"])
    feeds = {}
    if not all(_element_type(graph, name) for name in graph.inputs):
        raise RuntimeError(f"{graph.name}: the model has an input that is no tensor")
    for name, tensor in graph.inputs.items():
        sizes = [size or (1 if axis else input_shape[0]) for axis, size in enumerate(tensor.shape)]
        dtype = need("onnx").helper.tensor_dtype_to_np_dtype(_element_type(graph, name))
        feeds[name] = np.zeros(tuple(input_shape) if name == input_name else sizes, dtype)
    try:
        results = session.run(list(graph.outputs), feeds, run_options)
    except Exception as error:  # onnxruntime's own exceptions share no base but Exception
        raise RuntimeError(
            f"{graph.name}: onnxruntime cannot run the model on zeros of {dims(input_shape)}, which would tell the "
            f"sizes of its outputs: {_check.one_line(error)}"
        ) from error
    return {name: tuple(getattr(result, "shape", ())) for name, result in zip(graph.outputs, results)}


def _element_type(graph: Graph, name: str) -> int:
    return next(int(value.type.tensor_type.elem_type) for value in graph.proto.graph.input if value.name == name)


def _has_zero_size(value: Any) -> bool:
    return any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in value.type.tensor_type.shape.dim)


def _without_zero_sizes(graph: Graph) -> bytes:
    proto = load_proto(graph.source)
    free_sizes(proto.graph)
    data: bytes = proto.SerializeToString()
    return data
