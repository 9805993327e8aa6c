"""Arrays of every library, on the host and on a (pretended) device, come in as views and go out in kind."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import posepost
from bench.arrays import dtype_of, quantization_for, values
from bench.cuda_cpu.seam import STREAM, ExecutorCuda, forget_plans, host, to_device
from posepost import _cuda, _dlpack, _view

SHAPE = (2, 3, 6, 5)


def example(dtype: str) -> tuple[np.ndarray, np.ndarray, Any]:
    B, K, H, W = SHAPE
    heatmaps, offsets = values("random", dtype, SHAPE, 1), values("random", dtype, (B, 2 * K, H, W), 2)
    expected = posepost.decode_posenet(
        heatmaps, offsets, output_stride=8, quantization=quantization_for(dtype, dtype), activation="sigmoid"
    )
    return heatmaps, offsets, expected


# ---- host


def in_torch(array: np.ndarray) -> Any:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def in_jax(array: np.ndarray) -> Any:
    return pytest.importorskip("jax.numpy", reason="JAX is not installed").asarray(array)


def in_ort(array: np.ndarray) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if array.dtype.name == "bfloat16":
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), 16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


class Dlpack:
    """Nothing but DLPack, on the host or pretending to be on CUDA device 0."""

    def __init__(self, array: np.ndarray, device_type: int = 1) -> None:
        bits = array.view(np.uint16) if array.dtype.name == "bfloat16" else array
        self.array, self.bfloat16, self.device_type = bits, bits is not array, device_type
        self.asked: list[int | None] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device_type, 0

    def __dlpack__(self, stream: int | None = None) -> Any:
        self.asked.append(stream)
        capsule = self.array.__dlpack__()
        tensor = _dlpack.DLTensor.from_address(_dlpack.capsule_pointer(capsule, b"dltensor"))
        tensor.device_type = self.device_type
        if self.bfloat16:
            tensor.code = 4
        return capsule


LIBRARIES = {"numpy": np.asarray, "torch": in_torch, "jax": in_jax, "onnxruntime": in_ort, "dlpack": Dlpack}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8", "int8"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_host_arrays_of_every_library(library: str, dtype: str) -> None:
    heatmaps, offsets, expected = example(dtype)
    put = LIBRARIES[library]
    scales = quantization_for(dtype, dtype)
    got = posepost.decode_posenet(
        put(heatmaps), put(offsets), output_stride=8, quantization=scales, activation="sigmoid"
    )
    kind = {"torch": "torch", "jax": "jaxlib"}.get(library, "numpy")
    assert [type(array).__module__.split(".")[0] for array in got] == [kind, kind]
    np.testing.assert_array_equal(got.numpy().keypoints, expected.keypoints)
    np.testing.assert_array_equal(got.numpy().scores, expected.scores)


def test_host_views_are_not_copies() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert _view.as_numpy(_view.view(array, "array")) is array
    for placed in (torch.from_numpy(array), in_ort(array), Dlpack(array)):
        seen = _view.view(placed, "array")
        assert seen.pointer == _view.as_numpy(seen).ctypes.data
    slanted = torch.from_numpy(array).permute(2, 0, 1)[1:, :, ::2]
    seen = _view.view(slanted, "array")
    assert _view.spec(seen.form, "array").strides == (1, 12, 8)
    np.testing.assert_array_equal(_view.as_numpy(seen), slanted.numpy())


def test_a_host_view_keeps_its_memory_alive() -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    array = np.random.default_rng(0).random(1 << 18, np.float32)
    view = _view.as_numpy(_view.view(onnxruntime.OrtValue.ortvalue_from_numpy(array.copy()), "array"))
    fresh = [np.zeros(1 << 18, np.float32) for _ in range(8)]  # would land where freed memory lay
    np.testing.assert_array_equal(view, array)
    assert len(fresh) == 8


def test_torch_tensors_that_need_gradients_and_sparse_ones() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    heatmaps, offsets, expected = example("float32")
    tensor = torch.from_numpy(heatmaps).requires_grad_()
    got = posepost.decode_posenet(tensor, torch.from_numpy(offsets), output_stride=8, activation="sigmoid")
    np.testing.assert_array_equal(got.keypoints.numpy(), expected.keypoints)
    with pytest.raises(TypeError, match=r"^heatmaps must be a dense \(strided\) tensor, got layout torch\.sparse_coo$"):
        posepost.decode_posenet(torch.from_numpy(heatmaps).to_sparse(), offsets, output_stride=8, activation="sigmoid")
    with pytest.raises(TypeError, match=r"^heatmaps must be on the CPU or a CUDA device, got meta$"):
        posepost.decode_posenet(torch.from_numpy(heatmaps).to("meta"), offsets, output_stride=8, activation="sigmoid")


def test_torch_out_on_the_host() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    heatmaps, offsets, expected = example("float32")
    out = (torch.zeros(2, 3, 2), torch.zeros(2, 3))
    got = posepost.decode_posenet(heatmaps, offsets, output_stride=8, out=out, activation="sigmoid")
    assert got.keypoints is out[0]
    np.testing.assert_array_equal(out[0].numpy(), expected.keypoints)
    np.testing.assert_array_equal(out[1].numpy(), expected.scores)


def test_bfloat16_without_ml_dtypes() -> None:
    heatmaps, offsets, expected = example("bfloat16")
    bits = [array.view(np.uint16).view(_view.BFLOAT16) for array in (heatmaps, offsets)]
    got = posepost.decode_posenet(*bits, output_stride=8, activation="sigmoid")
    np.testing.assert_array_equal(got.keypoints, expected.keypoints)


def test_other_types_are_named(cpu_cuda: ExecutorCuda) -> None:
    wide = Dlpack(np.zeros(SHAPE, np.float64))
    with pytest.raises(TypeError, match=r"^heatmaps must be float32, float16, bfloat16, uint8 or int8, got float64$"):
        posepost.decode_posenet(wide, wide, output_stride=8, activation="sigmoid")
    elsewhere = Dlpack(np.zeros(SHAPE, np.float32), device_type=8)  # Metal
    with pytest.raises(TypeError, match=r"^heatmaps must be on the CPU or a CUDA device, got DLPack device type 8$"):
        posepost.decode_posenet(elsewhere, elsewhere, output_stride=8, activation="sigmoid")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    doubles = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(SHAPE))
    message = r"^heatmaps must be float32, float16, bfloat16, uint8 or int8, got float64$"
    with pytest.raises(TypeError, match=message):
        posepost.decode_posenet(doubles, doubles, output_stride=8, activation="sigmoid")


# ---- a pretended device


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8", "int8"])
def test_dlpack_on_a_device(cpu_cuda: ExecutorCuda, dtype: str) -> None:
    """What JAX and others hand over: the producer is told our stream, the result is a CuPy array."""
    import cupy

    heatmaps, offsets, expected = example(dtype)
    put = Dlpack(heatmaps, 2), Dlpack(offsets, 2)
    got = posepost.decode_posenet(
        *put, output_stride=8, quantization=quantization_for(dtype, dtype), activation="sigmoid"
    )
    assert put[0].asked == put[1].asked == [STREAM]
    assert isinstance(got.keypoints, cupy.ndarray)
    np.testing.assert_array_equal(got.numpy().keypoints, expected.keypoints)
    np.testing.assert_array_equal(host(got.scores), got.numpy().scores)
    posepost.decode_posenet(
        *put, output_stride=8, quantization=quantization_for(dtype, dtype), stream=0, activation="sigmoid"
    )
    assert put[0].asked[1:] == [1]  # DLPack's name for the legacy default stream


class CudaArrayInterface:
    def __init__(self, array: np.ndarray, stream: int | None) -> None:
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "strides": None if array.flags.c_contiguous else array.strides,
            "version": 3,
            "stream": stream,
        }


def test_cuda_array_interface(cpu_cuda: ExecutorCuda) -> None:
    heatmaps, offsets, expected = example("float32")
    channels_last = np.ascontiguousarray(offsets.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    put = CudaArrayInterface(heatmaps, stream=77), CudaArrayInterface(channels_last, stream=None)
    got = posepost.decode_posenet(*put, output_stride=8, activation="sigmoid")
    np.testing.assert_array_equal(got.numpy().keypoints, expected.keypoints)
    assert cpu_cuda.waits == [(STREAM, 77)]  # the producer's stream is waited for on the device


class PretendedTorch:
    """A PyTorch with a CUDA device, as far as posepost asks: real CPU tensors that say where they are not."""

    def __init__(self, stream: int) -> None:
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        self.real, self.current, self.recorded = torch, stream, []
        self.strided, self.float32, self.int32 = torch.strided, torch.float32, torch.int32
        self.cuda = SimpleNamespace(
            current_stream=lambda ordinal: SimpleNamespace(cuda_stream=self.current),
            ExternalStream=lambda pointer, device: pointer,
            default_stream=lambda ordinal: "default",
        )
        outer = self

        class Tensor:
            def __init__(self, tensor: Any) -> None:
                self.tensor, self.device = tensor, SimpleNamespace(type="cuda", index=0)
                self.layout, self.dtype, self.shape = tensor.layout, tensor.dtype, tensor.shape
                self.stride, self.data_ptr = tensor.stride, tensor.data_ptr
                self.is_neg, self.is_conj = tensor.is_neg, tensor.is_conj

            def __getitem__(self, index: Any) -> Any:
                return Tensor(self.tensor[index])

            def reshape(self, *shape: int) -> Any:
                return Tensor(self.tensor.reshape(*shape))

            def view(self, dtype: Any) -> Any:
                return Tensor(self.tensor.view(dtype))

            def record_stream(self, stream: int) -> None:
                outer.recorded.append(stream)

            def cpu(self) -> Any:
                return self.tensor

        self.Tensor = Tensor
        self.device = lambda kind, ordinal: f"{kind}:{ordinal}"

    def empty(self, floats: int, dtype: Any, device: str) -> Any:
        assert device == "cuda:0"
        return self.Tensor(self.real.from_numpy(np.full(floats, np.nan, np.float32)))


def test_torch_on_a_device(cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch in, torch out, on torch's stream; where another is asked for, both directions are ordered on the device."""
    heatmaps, offsets, expected = example("float32")
    for stream, name in ((None, None), (0x70, None), (STREAM, STREAM), (0, "default")):
        torch = PretendedTorch(0x70)
        put = [torch.Tensor(torch.real.from_numpy(array)) for array in (heatmaps, offsets)]
        cpu_cuda.waits.clear()
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "torch", torch)
            got = posepost.decode_posenet(*put, output_stride=8, stream=stream, activation="sigmoid")
            assert isinstance(got.keypoints, torch.Tensor)
            assert cpu_cuda.launches[-1].stream == (0x70 if stream is None else stream)
            assert cpu_cuda.waits == ([] if name is None else [(stream, 0x70)] * 2 + [(0x70, stream)])
            # the allocator keeps the inputs until the stream has read them
            assert torch.recorded == ([] if name is None else [name] * 2)
            result = got.numpy()
        np.testing.assert_array_equal(result.keypoints, expected.keypoints)
        np.testing.assert_array_equal(result.scores, expected.scores)


def decoded_by(decoder: str, torch: Any, **options: Any) -> Any:
    """A call of each decoder on tensors of a pretended torch."""
    rng = np.random.default_rng(0)

    def maps(*shape: int) -> Any:
        return torch.Tensor(torch.real.from_numpy(rng.standard_normal(shape).astype(np.float32)))

    if decoder == "posenet":
        return posepost.decode_posenet(
            maps(1, 17, 9, 9), maps(1, 34, 9, 9), output_stride=8, activation="sigmoid", **options
        )
    if decoder == "heatmap":
        return posepost.decode_heatmap(maps(1, 17, 9, 9), **options)
    if decoder == "simcc":
        return posepost.decode_simcc(maps(1, 17, 40), maps(1, 17, 50), visibility=True, **options)
    if decoder == "peaks":
        return posepost.find_peaks(maps(1, 17, 9, 9), threshold=0.1, max_peaks=3, layout="NCHW", **options)
    tensors = [maps(1, channels, 9, 9) for channels in (17, 34, 32, 32)]
    return posepost.decode_posenet_multi(*tensors, output_stride=8, activation="sigmoid", **options)


DECODERS = ("posenet", "heatmap", "simcc", "peaks", "posenet_multi")


@pytest.mark.parametrize("decoder", DECODERS)
def test_numpy_waits_for_the_stream_of_the_call(
    cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    """torch's stream, which copies, waits for the one that writes, whichever is torch's current one by then."""
    torch = PretendedTorch(0x70)
    monkeypatch.setitem(sys.modules, "torch", torch)
    result = decoded_by(decoder, torch)
    torch.current = 0x71
    cpu_cuda.waits.clear()
    result.numpy()
    assert set(cpu_cuda.waits) == {(0x71, 0x70)}


def test_cupy_arrays_beside_torch_tensors_are_ordered(cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's stream what CuPy's current stream makes of a transform, and of out, comes first."""
    torch = PretendedTorch(0x70)
    monkeypatch.setitem(sys.modules, "torch", torch)
    matrix = to_device(np.eye(2, 3, dtype=np.float32))
    decoded_by("heatmap", torch, transform=matrix)
    assert cpu_cuda.waits == [(0x70, STREAM)]
    assert [event.stream for event in cpu_cuda.events] == [0x70]  # the matrix is held until torch's stream has read it
    cpu_cuda.waits.clear()
    out = to_device(np.zeros((1, 17, 2), np.float32)), to_device(np.zeros((1, 17), np.float32))
    decoded_by("heatmap", torch, out=out)
    assert cpu_cuda.waits == [(0x70, STREAM)] * 2


def test_lazily_negated_tensors_are_refused(cpu_cuda: ExecutorCuda) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    lazy = torch.complex(torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3)).conj().imag
    with pytest.raises(
        TypeError, match=r"^heatmaps must hold its values, got a lazily negated or conjugated view: call .resolve_neg"
    ):
        posepost.decode_heatmap(lazy)


@pytest.mark.parametrize("stream", [-1, 2**64, 10**400])
def test_a_stream_that_is_no_pointer_is_refused(cpu_cuda: ExecutorCuda, stream: int) -> None:
    maps = to_device(np.zeros((1, 17, 9, 9), np.float32))
    with pytest.raises(ValueError, match=f"^stream must be a pointer of 64 bits, got {stream:#x}$"):
        posepost.decode_heatmap(maps, stream=stream)
    assert not cpu_cuda.launches


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_torch_tensor_on_a_device_without_cupy_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    torch = PretendedTorch(0x70)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it is an ImportError
    monkeypatch.setattr(_cuda, "cuda", _cuda._Seam())
    forget_plans()
    with pytest.raises(ImportError, match=r"on cuda:0, and decoding there needs CuPy: pip install .posepost\[cuda13\]"):
        decoded_by(decoder, torch)
    forget_plans()


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_result_keeps_the_stream_that_writes_it(
    cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    class Stream:
        ptr = 0x91

    stream = Stream()
    gone = weakref.ref(stream)
    torch = PretendedTorch(0x70)
    monkeypatch.setitem(sys.modules, "torch", torch)
    result = decoded_by(decoder, torch, stream=stream)
    again = decoded_by(decoder, torch, stream=0x91, out=result)
    del stream
    posepost.release_memory()  # whose streams are kept with it
    gc.collect()
    assert gone() is not None
    result.numpy()
    del result, again
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("decoder", DECODERS)
def test_results_of_the_per_thread_stream_carry_an_event(
    cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    """Another thread's stream of that name is another stream: `.numpy()` waits for the event."""
    torch = PretendedTorch(0x70)
    monkeypatch.setitem(sys.modules, "torch", torch)
    result = decoded_by(decoder, torch, stream=2)
    (event,) = [event for event in cpu_cuda.events if event.stream == 2]
    result.numpy()
    assert event.synchronized == 1


def test_torch_is_told_of_a_session_s_stream(cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which reads an input that torch could otherwise give away; other arrays need no word."""
    torch = PretendedTorch(0x70)
    monkeypatch.setitem(sys.modules, "torch", torch)
    _view.tell_torch(torch.Tensor(torch.real.zeros(3)), 0x92, 0)
    _view.tell_torch(to_device(np.zeros(3, np.float32)), 0x92, 0)
    assert torch.recorded == [0x92]


@pytest.mark.parametrize("decoder", ["peaks", "posenet_multi"])
def test_results_in_given_arrays_are_of_their_library(
    cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    torch = PretendedTorch(0x70)
    monkeypatch.setitem(sys.modules, "torch", torch)
    shapes = {
        "peaks": [((1, 17, 3, 2), "f4"), ((1, 17, 3), "f4"), ((1, 17), "i4")],
        "posenet_multi": [((1, 20, 17, 2), "f4"), ((1, 20, 17), "f4"), ((1, 20), "f4"), ((1,), "i4")],
    }[decoder]
    out = tuple(to_device(np.zeros(shape, dtype)) for shape, dtype in shapes)
    result = decoded_by(decoder, torch, out=out)
    assert all(given is got for given, got in zip(out, result))
    for array in result.numpy():
        assert type(array) is np.ndarray


@pytest.mark.parametrize("decoder", DECODERS)
def test_inputs_are_held_until_the_kernel_has_read_them(cpu_cuda: ExecutorCuda, decoder: str) -> None:
    """Of libraries that are not told of the stream; and no longer, and not in a graph."""

    class Library:
        Tensor = staticmethod(lambda tensor: CudaArrayInterface(np.array(tensor), None))
        real = SimpleNamespace(from_numpy=lambda array: array)

    _cuda._held.clear()
    for graph in (False, True):
        cpu_cuda.capturing = {STREAM} if graph else set()
        decoded_by(decoder, Library)
        assert bool(_cuda._held) != graph
        if graph:
            continue
        ((_, owners),) = _cuda._held[0, STREAM]
        assert all(isinstance(owner, CudaArrayInterface) for owner in owners)
        for event in cpu_cuda.events:
            event.done = True
        decoded_by(decoder, Library)
        assert len(_cuda._held[0, STREAM]) == 1  # that of the last call
        _cuda._held.clear()


def test_pinned_memory_is_held_until_it_is_written(cpu_cuda: ExecutorCuda) -> None:
    heatmaps, offsets, _ = example("float32")
    B, K = heatmaps.shape[:2]
    _cuda._held.clear()
    out = posepost.pinned(B, K)
    posepost.decode_posenet(to_device(heatmaps), to_device(offsets), output_stride=8, out=out, activation="sigmoid")
    scores = out.scores
    del out
    assert not _cuda._held
    del scores
    gc.collect()
    ((event, (pages, _)),) = _cuda._held[0, STREAM]
    assert event.stream == STREAM
    assert pages.nbytes == 12 * B * K
    _cuda._held.clear()
    posepost.pinned(B, K)  # which nothing was told to write
    gc.collect()
    assert not _cuda._held


def test_keypoints_made_by_hand_have_numpy_too(cpu_cuda: ExecutorCuda) -> None:
    points, scores = np.ones((1, 2, 2), np.float32), np.ones((1, 2), np.float32)
    for put in (np.asarray, to_device):
        result = posepost.Keypoints(put(points), put(scores)).numpy()
        np.testing.assert_array_equal(result.keypoints, points)
        np.testing.assert_array_equal(result.scores, scores)
    keypoints, confidences = posepost.Keypoints(points, scores)
    assert keypoints is points
    assert confidences is scores


# ---- imports


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_brings_numpy_alone() -> None:
    code = (
        "import sys, posepost;"
        "print([m for m in ('cupy', 'onnxruntime', 'onnx', 'torch', 'jax', 'PIL', 'ml_dtypes') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_import_is_quick() -> None:
    """Under 0.15 s of processor time more than NumPy: the quickest of five."""
    code = "import time, numpy; start = time.process_time(); import posepost; print(time.process_time() - start)"
    assert min(float(run_python(code)) for _ in range(5)) < 0.15


def test_deciding_costs_no_import_of_cupy() -> None:
    code = (
        "import sys, numpy as np, posepost;"
        "posepost.decode_posenet(np.zeros((1, 2, 3, 3), 'f4'), np.zeros((1, 4, 3, 3), 'f4'), output_stride=8);"
        "print('cupy' in sys.modules)"
    )
    assert run_python(code) == "False"


def test_dtype_names_are_numpys() -> None:
    for name in ("float32", "float16", "bfloat16", "uint8", "int8"):
        assert _view.spec(_view.view(np.zeros(2, dtype_of(name)), "x").form, "x").dtype == name
    assert ctypes.sizeof(_dlpack.DLTensor) == 48
