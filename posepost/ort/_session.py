"""A model in onnxruntime: the device and the stream it runs on, its inputs checked, its outputs left on the device."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from posepost import _view
from posepost.schemes import Scheme

from ._describe import describe
from ._graph import dims, need
from ._metadata import numbered, unnamed_scheme
from ._models import PoseModel, TopDownModel

NVIDIA_PROVIDERS: dict[str, dict[str, str]] = {
    "CUDAExecutionProvider": {"cudnn_conv_algo_search": "HEURISTIC"},
    "TensorrtExecutionProvider": {},
    "NvTensorRTRTXExecutionProvider": {},
}
"""What takes a device and a stream, and what else we ask of it where the caller does not."""


class Session:
    """A model in onnxruntime, on a stream of its own where there is a GPU. Its outputs stay where they are made."""

    model: PoseModel | TopDownModel

    def _start(self, model: str | os.PathLike[str] | bytes, providers: Sequence[Any] | None, device_id: int) -> None:
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
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else os.fspath(model),
                options,
                providers=provider_list(providers, self.device, device_id, pointer),
                enable_fallback=0,
            )
        except Exception as error:  # onnxruntime's own exceptions share no base but Exception
            raise RuntimeError(f"{self.model.name}: onnxruntime cannot load the model: {one_line(error)}") from error
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
        """What happens inside comes after what CuPy's current stream holds, and before what is put on it later."""
        if self.device == "cpu":
            yield
            return
        with self._cupy.cuda.Device(self._device_id):
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
            raise RuntimeError(f"{self.model.name}: the model failed while running: {one_line(error)}") from error

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
        takes = (None, *want.shape[1:]) if any_batch else want.shape
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

    def _infer(self, array: Any, heads: Sequence[str]) -> tuple[Any, ...]:
        """Heads of the model for what `_here` gave, inside `_queue`."""
        names = [self.model.heads[head] for head in heads]
        if self.device == "cpu":
            with self._failing():
                return tuple(self._session.run(names, {self.model.input_name: array}, self._run_options))
        binding = self._session.io_binding()
        binding.bind_input(
            self.model.input_name, "cuda", self._device_id, array.dtype.type, array.shape, array.data.ptr
        )
        for name in names:
            binding.bind_output(name, "cuda", self._device_id)
        with self._failing():
            self._session.run_with_iobinding(binding, self._run_options)
        return tuple(binding.get_outputs())

    def _quantization(self, heads: Sequence[str]) -> dict[str, tuple[float, int]] | None:
        return {head: self.model.quantization[head] for head in heads if head in self.model.quantization} or None

    def _normalized(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """(H, W, 3) pixels in the model's dtype and layout; a uint8 model gets them as they are."""
        dtype = np.dtype(self.model.inputs[self.model.input_name].dtype)
        values: npt.NDArray[Any] = pixels
        if dtype != np.uint8:
            values = ((pixels - self.model.mean) / self.model.std).astype(dtype)
        return values.transpose(2, 0, 1) if self.model.input_layout == "NCHW" else values


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
        return 'CuPy is not installed: pip install "posepost[cuda13]" or "posepost[cuda12]"'
    try:
        return None if cupy.cuda.runtime.getDeviceCount() else "CuPy sees no CUDA device"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy sees no CUDA device ({one_line(error)})"


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _provider_name(entry: Any) -> str:
    return str(entry[0] if isinstance(entry, tuple) else entry)


def shape_of(array: Any) -> tuple[int, ...]:
    return tuple(array.shape() if callable(array.shape) else array.shape)
