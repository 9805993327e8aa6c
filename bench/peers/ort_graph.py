"""The decoder as an ONNX graph behind the network, run by onnxruntime: ArgMax (first index), Gather, Add, Sigmoid.

Shapes are fixed and the cells' pixels and flat indices are constants of the graph, so that it has few nodes. Inputs are
bound in place (I/O binding), outputs are bound on the host. On a GPU no node may fall back to the CPU: such a
session is an error; cuDNN promises no order among equal maxima there. Types that the provider's ArgMax lacks are cast
in the graph (onnxruntime's OperatorKernels.md). On the CPU onnxruntime has its default threads, but they stop spinning
after a run, not to slow what is measured next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Case
from ..optional import absent
from . import no_gpu, places

NAME = "onnxruntime graph"
DEVICES = ("cuda", "cpu")
COMPLETE = True
ARGMAX_TYPES = {"cpu": ("float32", "uint8"), "cuda": ("float32", "float16")}


def missing(device: str) -> str | None:
    command = "pip install onnx onnxruntime" if device == "cpu" else 'pip install onnx "onnxruntime-gpu[cuda,cudnn]"'
    reason = absent("onnx", command) or absent("onnxruntime", command) or (no_gpu() if device == "cuda" else None)
    if reason or device == "cpu":
        return reason
    try:
        import onnxruntime
    except Exception as error:  # a broken library raises anything
        return f"onnxruntime cannot be imported ({error}): {command}"
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return f"this onnxruntime has no CUDA provider: pip uninstall -y onnxruntime; {command}"
    return None


def prepare(case: Case, sets: list[tuple[Any, Any]], device: str) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if device == "cuda":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
    session = onnxruntime.InferenceSession(graph(case, device), options, [provider])
    if session.get_providers()[0] != provider:  # its libraries did not load, which is only logged
        raise RuntimeError(f"onnxruntime took {session.get_providers()[0]} in place of {provider}")

    bindings = []
    for arrays in sets:
        binding = session.io_binding()
        for name, array in zip(("heatmaps", "offsets"), arrays):
            pointer = array.ctypes.data if device == "cpu" else array.data.ptr
            binding.bind_input(name, device, 0, onnx_type(case.dtype), array.shape, pointer)
        binding.bind_output("keypoints", "cpu")
        binding.bind_output("scores", "cpu")
        bindings.append((binding, arrays))  # the arrays live as long as their pointers

    def call(i: int) -> tuple[np.ndarray, np.ndarray]:
        binding, _ = bindings[i]
        session.run_with_iobinding(binding)
        keypoints, scores = binding.get_outputs()
        return keypoints.numpy(), scores.numpy()

    return call


def onnx_type(dtype: str) -> int:
    from onnx import TensorProto

    names = {"float32": "FLOAT", "float16": "FLOAT16", "bfloat16": "BFLOAT16", "uint8": "UINT8"}
    return int(getattr(TensorProto, names[dtype]))


def graph(case: Case, device: str) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    B, K, H, W = case.B, case.K, case.H, case.W
    where = places(case)
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(value: Any, dtype: Any = np.int64) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"constant{len(constants)}"))
        return str(constants[-1].name)

    def node(kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{kind}{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def values(name: str, indices: str) -> str:
        """Elements of an input at flat indices, as float32 in its unit."""
        found = node("Gather", node("Reshape", name, constant([-1])), indices, axis=0)
        if case.dtype != "float32":
            found = node("Cast", found, to=TensorProto.FLOAT)
        if case.quantization:
            scale, zero = case.quantization[name]
            found = node("Mul", node("Sub", found, constant(zero, np.float32)), constant(scale, np.float32))
        return found

    maps = "heatmaps"
    if case.dtype not in ARGMAX_TYPES[device]:
        maps = node("Cast", maps, to=TensorProto.FLOAT)
    shape, axis = ([B, K, H * W], 2) if case.layout == "NCHW" else ([B, H * W, K], 1)
    cells = node("ArgMax", node("Reshape", maps, constant(shape)), axis=axis, keepdims=0, select_last_index=0)

    def flat(cells: str, step: int, first: np.ndarray) -> str:
        return node("Add", node("Mul", cells, constant(step)) if step > 1 else cells, constant(first))

    winners = flat(cells, where.heatmap_step, where.heatmap_first)
    moves = flat(node("Unsqueeze", cells, constant([2])), where.offset_step, where.offset_first)
    pixels = node("Gather", constant(where.grid, np.float32), cells, axis=0)
    node("Add", pixels, values("offsets", moves), output="keypoints")
    node("Sigmoid", values("heatmaps", winners), output="scores")

    element = onnx_type(case.dtype)
    shapes = ([B, K, H, W], [B, 2 * K, H, W]) if axis == 2 else ([B, H, W, K], [B, H, W, 2 * K])
    inputs = [helper.make_tensor_value_info(n, element, s) for n, s in zip(("heatmaps", "offsets"), shapes)]
    outputs = [
        helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, [B, K, 2]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [B, K]),
    ]
    decoder = helper.make_graph(nodes, "decode_posenet", inputs, outputs, constants)
    model = helper.make_model(decoder, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
