"""CuPy and onnxruntime's CUDA provider replaced by records of their calls."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from posepost.ort import posenet


class FakeStream:
    def __init__(self, log: list[Any], name: str, ptr: int) -> None:
        self.log, self.name, self.ptr = log, name, ptr

    def __enter__(self) -> None:
        self.log.append(f"enter {self.name}")

    def __exit__(self, *_: object) -> None:
        self.log.append(f"leave {self.name}")

    def record(self, event: object) -> None:
        self.log.append(f"{self.name} records")

    def wait_event(self, event: object) -> None:
        self.log.append(f"{self.name} waits for event")

    def synchronize(self) -> None:
        raise AssertionError("the session must not wait")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """CuPy and onnxruntime's CUDA provider replaced by records of their calls: `log`, in order."""
    onnxruntime = pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
    from ..onnx_models import CPU, CUDA, FOUR

    found = SimpleNamespace(log=[], started=[CUDA, CPU])
    log: list[Any] = found.log
    caller = FakeStream(log, "caller", 7)

    class Device:
        def __init__(self, number: int) -> None:
            log.append(f"device {number}")

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    def asarray(array: Any) -> Any:
        log.append("upload")
        flags = SimpleNamespace(c_contiguous=array.flags.c_contiguous)
        return SimpleNamespace(
            dtype=array.dtype, shape=array.shape, flags=flags, data=SimpleNamespace(ptr=array.ctypes.data)
        )

    cuda = SimpleNamespace(
        Device=Device,
        Stream=lambda non_blocking: FakeStream(log, "ours", 4096),
        Event=lambda disable_timing: object(),
        get_current_stream=lambda: caller,
        runtime=SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=RuntimeError),
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, asarray=asarray))

    class Binding:
        def bind_input(self, name: str, kind: str, number: int, dtype: Any, shape: Any, pointer: int) -> None:
            log.append(("input", name, kind, number, dtype, tuple(shape)))

        def bind_cpu_input(self, name: str, array: Any) -> None:
            log.append(("host input", name, array.dtype.name, array.tolist()))

        def bind_output(self, name: str, kind: str, number: int) -> None:
            log.append(("output", name, kind, number))

        def get_outputs(self) -> list[Any]:
            # As OrtValue has it: shape is a method.
            bound = [entry[1] for entry in log if entry[0] == "output"]
            return [SimpleNamespace(name=name, shape=lambda name=name: [1, FOUR[name], 5, 7]) for name in bound]

    class Session:
        def __init__(self, model: Any, options: Any, providers: Any, enable_fallback: int) -> None:
            self.providers = providers
            log.append(("session", providers, enable_fallback))

        def get_providers(self) -> list[str]:
            return found.started

        def io_binding(self) -> Binding:
            return Binding()

        def run_with_iobinding(self, binding: Binding, options: Any) -> None:
            entry = options.get_run_config_entry("disable_synchronize_execution_providers")
            log.append(("run", entry))

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)

    def decoder(result: str) -> Any:
        def decode(*maps: Any, **options: Any) -> str:
            facts = [options[key] for key in ("output_stride", "layout", "activation")]
            log.append(("decode", options["stream"].name, *facts, *(array.name for array in maps)))
            return result

        return decode

    monkeypatch.setattr(posenet, "decode_posenet", decoder("keypoints"))
    monkeypatch.setattr(posenet, "decode_posenet_multi", decoder("poses"))
    return found
