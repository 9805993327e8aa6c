"""A model in onnxruntime: the device and the stream it runs on, its inputs checked, its outputs left on the device."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from posepost import _check, _cuda, _view
from posepost.schemes import Scheme
from posepost.types import DeviceMemory, Result, Shape, made

from ._describe import describe
from ._extra_inputs import check_extra_inputs, in_batch
from ._graph import Graph
from ._metadata import numbered, unnamed_scheme
from ._models import PoseModel, TopDownModel
from ._runtime import open_session
from ._source import Source, need
from ._tensors import channel_axis, dims

NVIDIA_PROVIDERS: dict[str, dict[str, str]] = {
    "CUDAExecutionProvider": {"cudnn_conv_algo_search": "HEURISTIC"},
    "TensorrtExecutionProvider": {},
    "NvTensorRTRTXExecutionProvider": {},
}
"""What takes a device and a stream, and what else we ask of it where the caller does not."""


AnyResult = TypeVar("AnyResult", bound=Result)
Self = TypeVar("Self", bound="Session")


class Session:
    """A model in onnxruntime, on a stream of its own where there is a GPU. Its outputs stay where they are made.

    Copied and pickled, it is made again from what it was given: a copy has a stream of its own. A model in memory goes
    with its bytes, one on disk with its path.
    """

    model: PoseModel | TopDownModel
    _source: Source
    _given: dict[str, Any]

    def __new__(cls: type[Self], model: Any, **options: Any) -> Self:
        """Keeps what the session is given beside the model."""
        self: Self = super().__new__(cls)
        self._given = options
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self._source, self._given)

    def _start(self, graph: Graph, providers: Sequence[Any] | None, device_id: int) -> None:
        self._source = graph.source
        self._lock = threading.Lock()
        check_extra_inputs(self.model.name, self.model.inputs, self.model.input_name, self.model.extra_inputs)
        onnxruntime = need("onnxruntime")
        available = onnxruntime.get_available_providers()
        self.device, self.device_reason = choose_device(providers, available, cupy_problem)
        self.stream: Any = None
        self._cupy: Any = None
        self._event: Any = None
        self._device_id = device_id
        if self.device == "cuda":
            self._cupy = importlib.import_module("cupy")
            with self._cupy.cuda.Device(device_id):
                self.stream = self._cupy.cuda.Stream(non_blocking=True)  # stream 0 is "not set" to onnxruntime
                self._event = self._cupy.cuda.Event(disable_timing=True)
            if hasattr(onnxruntime, "preload_dlls"):
                with contextlib.redirect_stdout(io.StringIO()):
                    onnxruntime.preload_dlls()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = 4
        pointer = self.stream.ptr if self.stream is not None else None
        self._session = open_session(graph, options, provider_list(providers, self.device, device_id, pointer))
        if self.device == "cuda":
            self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            if "CUDAExecutionProvider" not in self._session.get_providers():
                self.device, self.stream = "cpu", None
                self.device_reason = "onnxruntime could not start its CUDA provider (posepost doctor tells more)"
                warnings.warn(
                    f"{type(self).__name__} runs on the CPU: {self.device_reason}", RuntimeWarning, stacklevel=3
                )

    def describe(self) -> str:
        """What is known of the model, and where it runs, in a few lines."""
        return f"{describe(self.model)}\n{'device':<17}{self.device}: {self.device_reason}"

    @contextlib.contextmanager
    def _in_order(self) -> Iterator[None]:
        """What happens inside comes after what CuPy's current stream holds, and before what is put on it later. One
        thread at a time: they share the session's stream and event, and only enqueue."""
        if self.device == "cpu":
            yield
            return
        with self._lock, self._cupy.cuda.Device(self._device_id):
            caller = self._cupy.cuda.get_current_stream()
            caller.record(self._event)
            self.stream.wait_event(self._event)
            yield
            self.stream.record(self._event)
            caller.wait_event(self._event)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # as in _start
            raise RuntimeError(
                f"{self.model.name}: the model failed while running: {_check.one_line(error)}"
            ) from error

    def _check(self, images: Any, any_batch: bool = False) -> None:
        if self.device == "cpu" and not isinstance(images, np.ndarray):
            raise TypeError(
                f"images must be a NumPy array, because this session runs on the CPU ({self.device_reason}), "
                f"got {type(images).__name__}"
            )
        if not hasattr(images, "dtype") or not hasattr(images, "shape"):
            raise TypeError(f"images must be an array, got {type(images).__name__}")
        want = self.model.inputs[self.model.input_name]
        dtype, shape = str(images.dtype).removeprefix("torch."), tuple(images.shape)
        if dtype != want.dtype:
            raise TypeError(f"images must have the model's dtype {want.dtype}, got {dtype}")
        takes = [None if any_batch else want.shape[0], *want.shape[1:]]
        if len(takes) == 4:
            takes[channel_axis(self.model.input_layout)] = len(self.model.mean)
        if len(shape) != len(takes) or any(w not in (None, g) for w, g in zip(takes, shape)):
            raise ValueError(f"images must have shape {dims(takes)}, got {dims(shape)}")

    def keypoint_names(self, count: int) -> tuple[str, ...]:
        """The names of the model's `count` keypoints, "keypoint 0", ... where they are not known."""
        scheme = self.keypoint_scheme(count)
        return numbered(count) if scheme is None else scheme.keypoints

    def keypoint_scheme(self, count: int) -> Scheme | None:
        """What the model's `count` keypoints are; None where that is not known. Raises ValueError where they are
        others."""
        scheme = self.model.scheme or unnamed_scheme(count, isinstance(self.model, PoseModel))
        if scheme is not None and len(scheme.keypoints) != count:
            raise ValueError(
                f"keypoints must name the {count} keypoints of {self.model.name}, got {len(scheme.keypoints)}: "
                f"{self.model.keypoints_by}"
            )
        return scheme

    def _queue(self) -> contextlib.AbstractContextManager[Any]:
        """CuPy allocates and copies on the session's stream inside; nothing on the CPU."""
        return self.stream if self.device == "cuda" else contextlib.nullcontext()

    def _here(self, images: Any) -> Any:
        """Checked images where the model runs, as a NumPy or CuPy array; device arrays are not copied."""
        if self.device == "cpu":
            return images
        on_host = isinstance(images, np.ndarray) or not hasattr(images, "__dlpack__")
        array = self._cupy.asarray(images) if on_host else self._cupy.from_dlpack(images)
        _view.tell_torch(images, self.stream.ptr, self._device_id)
        if not array.flags.c_contiguous:
            raise ValueError("images must be C-contiguous on the device; make a contiguous copy")
        return array

    def _forward(self, images: Any, heads: Sequence[str]) -> tuple[Any, ...]:
        """Heads of the model for as many images as it takes at once."""
        self._check(images)
        with self._in_order(), self._queue():
            return self._infer(self._here(images), heads)

    def _infer(self, array: Any, heads: Sequence[str]) -> tuple[Any, ...]:
        """Heads of the model for what `_here` gave, inside `_queue`."""
        names = [self.model.heads[head] for head in heads]
        others = {
            name: in_batch(value, self.model.inputs[name].shape, array.shape[0])
            for name, value in self.model.extra_inputs.items()
        }
        if self.device == "cpu":
            with self._failing():
                return tuple(self._session.run(names, {self.model.input_name: array, **others}, self._run_options))
        binding = self._session.io_binding()
        binding.bind_input(
            self.model.input_name, "cuda", self._device_id, array.dtype.type, array.shape, array.data.ptr
        )
        for name, value in others.items():
            binding.bind_cpu_input(name, value)
        for name in names:
            binding.bind_output(name, "cuda", self._device_id)
        with self._failing():
            self._session.run_with_iobinding(binding, self._run_options)
        return tuple(binding.get_outputs())

    def _quantization(self, heads: Sequence[str]) -> dict[str, tuple[float, int]] | None:
        return {head: self.model.quantization[head] for head in heads if head in self.model.quantization} or None

    def _fed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """(H, W, 3) pixels as the network takes them, in its layout. ValueError where that is in doubt."""
        if self.model.feed.doubt:
            raise ValueError(self.model.feed.doubt)
        values = self.model.feed(pixels)
        return values.transpose(2, 0, 1) if self.model.input_layout == "NCHW" else values

    def _in_runs(
        self,
        images: Any,
        transform: Any,
        out: Any,
        rows: int,
        result: type[AnyResult],
        row_shapes: Callable[[int], Sequence[Shape]],
        decode: Callable[[Any, Any, Any], AnyResult],
    ) -> AnyResult:
        """A result for any number of images, of which the model takes `rows` at once, inside `_queue`.

        decode(images, transform, out): of so many; `out` is also a function that makes room for K keypoints.
        row_shapes(K): the shapes of one row of each of the result's arrays.
        """
        if images.shape[0] == rows:
            return decode(images, transform, out)
        if out is not None:
            what = "crops" if isinstance(self.model, TopDownModel) else "images"
            raise ValueError(
                f"out must be None where the model takes {rows} {what} a run, got {images.shape[0]} {what}"
            )
        return self._piecewise(images, transform, rows, result, row_shapes, decode)

    def _piecewise(
        self,
        images: Any,
        transform: Any,
        rows: int,
        result: type[AnyResult],
        row_shapes: Callable[[int], Sequence[Shape]],
        decode: Callable[[Any, Any, Any], AnyResult],
    ) -> AnyResult:
        """`_in_runs` in several runs, zeros beside the images of the last."""
        xp = np if self.device == "cpu" else self._cupy
        N = len(images)
        whole: list[Any] = []

        def room(start: int, count: int) -> tuple[Any, ...]:
            if not whole:
                length = -(-N // rows) * rows
                shapes = [(length, *shape) for shape in row_shapes(count)]
                whole.extend(xp.empty(shape, np.dtype(kind)) for shape, kind in zip(shapes, result.DTYPES.values()))
            return tuple(array[start : start + rows] for array in whole)

        if transform is not None:
            seen = _check.transform(transform, None if self.device == "cpu" else self._device_id, N, "images")
            transform = xp.asarray(seen if isinstance(seen, np.ndarray) else transform)
        for start in range(0, N, rows):
            matrices = transform
            if matrices is not None and matrices.ndim == 3:
                matrices = _filled_up(xp, matrices[start : start + rows], rows)
            decode(_filled_up(xp, images[start : start + rows], rows), matrices, functools.partial(room, start))
        if not N:
            room(0, self.model.keypoint_count or len(self.model.keypoints))
        arrays = [array[:N] for array in whole]
        if self.device == "cpu":
            return result(*arrays)
        shapes, places = tuple(array.shape for array in arrays), tuple(array.data.ptr for array in arrays)
        memory = DeviceMemory(self._device_id, self.stream.ptr, shapes, "cupy", places, None, self.stream)
        return made(result, arrays, memory)


def keypoints_rows(count: int) -> tuple[Shape, ...]:
    """The shapes of one row of Keypoints."""
    return (count, 2), (count,)


def _again(kind: Any, source: Source, options: dict[str, Any]) -> Any:
    return kind(source, **options)


def _filled_up(xp: Any, rows: Any, count: int) -> Any:
    """The rows with rows of zeros behind them, `count` in all; the rows themselves where there are as many."""
    if len(rows) == count:
        return rows
    whole = xp.zeros((count, *rows.shape[1:]), rows.dtype)
    whole[: len(rows)] = rows
    return whole


def choose_device(requested: Sequence[Any] | None, available: Sequence[str], cupy_problem: Any) -> tuple[str, str]:
    """("cuda" or "cpu", why): CUDA needs the provider, asked for or by default, and CuPy with a device.

    cupy_problem: called only when the rest is there; returns None or what is wrong.
    """
    if requested is not None and "CUDAExecutionProvider" not in [_provider_name(entry) for entry in requested]:
        return "cpu", "providers= names no CUDA provider"
    if "CUDAExecutionProvider" not in available:
        return "cpu", "this onnxruntime has no CUDA provider"
    problem = cupy_problem()
    return ("cpu", problem) if problem else ("cuda", "onnxruntime and CuPy on one stream")


def provider_list(requested: Sequence[Any] | None, device: str, device_id: int, stream: int | None) -> list[Any]:
    """Providers for InferenceSession; those of NVIDIA are told our device and stream, on which we put the inputs: on a
    stream of its own TensorRT does not wait for them (microsoft/onnxruntime#32673). cuDNN's algorithms are chosen by
    its heuristic, where onnxruntime's default tries all of them for each new size of image."""
    if device != "cuda":
        return list(requested) if requested is not None else ["CPUExecutionProvider"]
    ours = {"device_id": str(device_id), "user_compute_stream": str(stream)}
    entries = list(requested) if requested is not None else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return [
        (name, {**NVIDIA_PROVIDERS[name], **(entry[1] if isinstance(entry, tuple) else {}), **ours})
        if (name := _provider_name(entry)) in NVIDIA_PROVIDERS
        else entry
        for entry in entries
    ]


def cupy_problem() -> str | None:
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        return f"CuPy is not installed: {_cuda.INSTALL_CUPY}"
    try:
        return None if cupy.cuda.runtime.getDeviceCount() else "CuPy sees no CUDA device"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy sees no CUDA device ({_check.one_line(error)})"


def _provider_name(entry: Any) -> str:
    return str(entry[0] if isinstance(entry, tuple) else entry)


def shape_of(array: Any) -> tuple[int, ...]:
    return tuple(array.shape() if callable(array.shape) else array.shape)
