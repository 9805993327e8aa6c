"""Arrays of every library as pointers and strides. The only file that knows who made an array; it never copies one.

Read directly: NumPy, CuPy, PyTorch, onnxruntime.OrtValue. Through DLPack: JAX and whatever else speaks it. Through
`__cuda_array_interface__` (version 2 and 3): what speaks nothing better, such as Numba.
"""

from __future__ import annotations

import ctypes
import functools
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import _cuda, _dlpack

Array = Any
"""An array of any of the libraries above."""

BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""bfloat16 for a NumPy without ml_dtypes: the bits, under a field name that says what they are."""

ITEMSIZE = {
    "float32": 4, "float16": 2, "bfloat16": 2, "uint8": 1, "int8": 1,
    "float64": 8, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8,
}  # fmt: skip
"""Of the types of maps, and of those that a matrix on the host may have besides."""

Form = tuple[tuple[int, ...], tuple[int, ...], Any, "int | None"]
"""Shape, strides in bytes, dtype and device of an array, None for host memory: all that a choice of kernel may depend
on, as its library gives it. Arrays of equal forms run the same plan; `spec` says the same in one language."""


class Spec(NamedTuple):
    """A form with the dtype's name and strides in elements: what plans are made from."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    device: int | None  # CUDA ordinal; None: host memory

    @property
    def itemsize(self) -> int:
        return ITEMSIZE[self.dtype]


class View(NamedTuple):
    """What a launch needs to know of an array, and what keeps it alive."""

    pointer: int  # 0 for NumPy arrays: `as_numpy` gives the array itself, and asking for its address is slow
    form: Form
    library: str
    owner: Any  # the array, or the DLPack capsule that holds it
    readonly: bool = False  # of NumPy arrays `is_readonly` tells


class Queue(NamedTuple):
    """The stream of a call."""

    pointer: int
    holder: Any = None  # the stream's object, whose end would be the stream's; None where only the pointer was given
    library: str | None = None  # whose current stream it is; None: the caller's choice


HostInputs = tuple[str, Sequence[Any], tuple["Form | None", ...]]
"""The arrays of a call on the host: the library of the first; NumPy arrays as they are, others as views; forms."""


def on_host(arrays: tuple[Array | None, ...], names: tuple[str, ...]) -> HostInputs:
    forms: list[Any] = []
    for array in arrays:
        if type(array) is np.ndarray:
            forms.append((array.shape, array.strides, array.dtype, None))
        elif array is None:
            forms.append(None)
        else:
            break
    else:
        return "numpy", arrays, tuple(forms)
    views = [None if array is None else view(array, name) for array, name in zip(arrays, names)]
    library = views[0].library  # type: ignore[union-attr]
    return library, views, tuple([seen and seen.form for seen in views])


Inputs = tuple[int, Queue, str, list[int], tuple["Form | None", ...], list[Any]]
"""The arrays of a call on a device: its ordinal, the stream that will read them, the library of the first, pointers (0
for those that are missing), forms, and what their libraries might give away before the stream has read it."""


def inputs(arrays: tuple[Array, ...], names: tuple[str, ...], stream: Any) -> Inputs | None:
    """`arrays` as a launch needs them; None if the first lies on the host."""
    if stream is None:  # CuPy arrays alone, on CuPy's current stream: nothing is to be ordered, nothing to be held
        pointers: list[int] = []
        forms: list[Any] = []
        for array in arrays:
            if type(array) is _cupys_array:
                memory = array.data
                pointers.append(memory.ptr)
                forms.append((array.shape, array.strides, array.dtype, memory.device_id))
            elif array is None and forms:
                pointers.append(0)
                forms.append(None)
            else:
                break
        else:
            ordinal = forms[0][3]
            return ordinal, cupys_queue(ordinal), "cupy", pointers, tuple(forms), []
    if type(arrays[0]) is np.ndarray:
        return None
    first = device(arrays[0], names[0])
    if first is None:
        return None
    ordered = queue(arrays[0], first, stream)
    views = [None if array is None else view(array, name, ordered) for array, name in zip(arrays, names)]
    pointers = [0 if seen is None else seen.pointer for seen in views]
    library = views[0].library  # type: ignore[union-attr]
    return first, ordered, library, pointers, tuple([v and v.form for v in views]), owners(views, ordered)


def view(array: Array, name: str, queue: Queue | None = None) -> View:
    """The array as a `View`. `queue`, where given, will read it: the producer's work is ordered before it on the device
    (but for CuPy arrays on a stream of the caller's choice, who sees to that). `name` is the argument's in errors."""
    kind: Any = type(array)
    reader = _reader(kind)
    if reader is None and hasattr(array, "__cuda_array_interface__"):
        reader = _from_cuda_array_interface
    if reader is None:
        raise TypeError(
            f"{name} must be a NumPy, CuPy, PyTorch or JAX array, an onnxruntime.OrtValue, or have __dlpack__ or "
            f"__cuda_array_interface__, got {kind.__name__}"
        )
    return reader(array, name, queue)


def device(array: Array, name: str) -> int | None:
    """The device of an array, without touching its data or a stream."""
    kind: Any = type(array)
    reader = _reader(kind)
    if reader is _from_numpy:
        return None
    if reader is _from_cupy:
        return int(array.data.device_id)
    if reader is _from_dlpack:
        return _dlpack.device(array, name)
    return view(array, name).form[3]


def queue(array: Array, ordinal: int, stream: Any) -> Queue:
    """`stream`, or the current stream of the library that made the array: its work on the array is then ordered before
    the call's, and its next work after it, without events. CuPy's stands for libraries that have none."""
    if stream is not None:
        return Queue(stream_pointer(stream), None if isinstance(stream, int) else stream)
    kind: Any = type(array)
    if _reader(kind) is _from_torch:
        current = sys.modules["torch"].cuda.current_stream(ordinal)
        return Queue(current.cuda_stream, current, "torch")
    return cupys_queue(ordinal)


def cupys_queue(ordinal: int) -> Queue:
    """CuPy's current stream; the last one is kept, as most calls go where the call before went."""
    global _last_queue
    current, last = _cuda.cuda.stream(ordinal), _last_queue
    if last.holder is not current:
        last = _last_queue = Queue(current.ptr, current, "cupy")
    return last


_last_queue = Queue(0)


def stream_pointer(stream: Any) -> int:
    """The raw pointer of an int, a CuPy or PyTorch stream, or anything with `__cuda_stream__`."""
    if isinstance(stream, int) and not isinstance(stream, bool):
        if not 0 <= stream < 2**64:
            raise ValueError(f"stream must be a pointer of 64 bits, got {stream:#x}")
        return stream
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    for attribute in ("ptr", "cuda_stream"):  # CuPy and PyTorch before they had __cuda_stream__
        if hasattr(stream, attribute):
            return int(getattr(stream, attribute))
    raise TypeError(
        f"stream must be None, a pointer, a CuPy or PyTorch stream or have __cuda_stream__, got {type(stream).__name__}"
    )


def owners(views: Iterable[View | None], queue: Queue) -> list[Any]:
    """What a launch still reads and its library might give away: everything but PyTorch's tensors, which were told of
    the stream, and CuPy's arrays on CuPy's current stream, whose pool gives memory to later work alone."""
    told = ("torch", "cupy") if queue.library == "cupy" else ("torch",)
    return [seen.owner for seen in views if seen is not None and seen.library not in told]


def written_by(queue: Queue, ordinal: int) -> Any:
    """What tells, and keeps, that a stream writes a result: its holder; of the per-thread stream, which is another in
    the thread that reads, an event."""
    if queue.pointer == _cuda.PER_THREAD_STREAM:
        return _cuda.cuda.record(ordinal, queue.pointer)
    return queue.holder


def start_of_section(floats: int, library: str) -> int:
    """Where the next array of a result may begin in its memory: XLA takes aligned ones alone."""
    return -(-floats // 64) * 64 if library == "jax" else floats


_cupys_array: Any = None  # its class, once one was seen


@functools.cache
def _reader(kind: Any) -> Callable[[Array, str, Queue | None], View] | None:
    if issubclass(kind, np.ndarray):
        if kind is np.ndarray:
            return _from_numpy
        return _refused if issubclass(kind, np.ma.MaskedArray) else _from_subclass
    if issubclass(kind, getattr(getattr(sys.modules.get("jax"), "core", None), "Tracer", ())):
        return _refused
    for library, class_name, reader in (
        ("cupy", "ndarray", _from_cupy),
        ("torch", "Tensor", _from_torch),
        ("onnxruntime", "OrtValue", _from_ort),
    ):
        module = sys.modules.get(library)  # asking never imports the library
        if module is not None and issubclass(kind, getattr(module, class_name, ())):
            if reader is _from_cupy:
                global _cupys_array
                _cupys_array = module.ndarray
            if reader is _from_torch and _is_wrapper(kind, module.Tensor):
                return _refused
            return reader
    if hasattr(kind, "__dlpack__"):
        return _from_dlpack
    return None


def _is_wrapper(kind: Any, tensor: Any) -> bool:
    """Of tensors that hold others or none, such as FakeTensor and DTensor: their own address leads nowhere."""
    return getattr(kind, "__torch_dispatch__", None) is not getattr(tensor, "__torch_dispatch__", None)


def _refused(array: Array, name: str, queue: Queue | None) -> View:
    """Kinds of arrays whose values are not in their memory."""
    kind: Any = type(array)
    if isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be an array without a mask: fill it, as with .filled(0), got {kind.__name__}")
    if kind.__module__.startswith("jax"):
        raise TypeError(
            f"{name} must be an array that has values, got a JAX tracer: call posepost outside jax.jit, or through "
            "jax.pure_callback"
        )
    raise TypeError(f"{name} must be a tensor with memory of its own, got {kind.__name__}")


def is_array(value: Any) -> bool:
    """Whether `view` can read it."""
    kind: Any = type(value)
    return _reader(kind) is not None or hasattr(value, "__cuda_array_interface__")


def is_known(form: Form) -> bool:
    """Whether its dtype is NumPy's too."""
    return not isinstance(form[2], str) or form[2] in ITEMSIZE


def spec(form: Form, name: str) -> Spec:
    """`name` is the argument's in errors. Strides of axes of one element mean nothing, and are not negative here."""
    shape, strides, dtype, ordinal = form
    dtype_name, itemsize = _name_and_size(dtype)
    if any(stride % itemsize for stride in strides):
        raise ValueError(
            f"{name} must have strides that are multiples of its {itemsize}-byte elements, got {strides} bytes"
        )
    in_elements = tuple((abs(stride) if n == 1 else stride) // itemsize for n, stride in zip(shape, strides))
    return Spec(tuple(shape), in_elements, dtype_name, ordinal)


def _name_and_size(dtype: Any) -> tuple[str, int]:
    """Of the dtype of any library; a library's own dtype that NumPy has not, as its name."""
    if isinstance(dtype, str):
        return dtype, ITEMSIZE.get(dtype, 1)
    if dtype == BFLOAT16:
        return "bfloat16", 2
    return str(dtype.name if dtype.isnative else dtype), dtype.itemsize or 1


def span(form: Form, name: str) -> int:
    """Bytes from the first to the last element of an array without negative strides."""
    shape, strides = form[0], form[1]
    if 0 in shape:
        return 0
    return sum((n - 1) * stride for n, stride in zip(shape, strides)) + spec(form, name).itemsize


def is_contiguous(seen: Spec) -> bool:
    """In C order without gaps."""
    expected = contiguous_strides(seen.shape)
    return 0 in seen.shape or all(n == 1 or s == e for n, s, e in zip(seen.shape, seen.strides, expected))


def contiguous_strides(shape: tuple[int, ...], itemsize: int = 1) -> tuple[int, ...]:
    return tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _named(shape: tuple[int, ...], strides: tuple[int, ...], dtype: str, ordinal: int | None) -> Form:
    """The form of an array whose library gives strides in elements."""
    size = ITEMSIZE.get(dtype, 1)
    return shape, strides if size == 1 else tuple([size * stride for stride in strides]), dtype, ordinal


def _from_numpy(array: Any, name: str, queue: Queue | None) -> View:
    return View(0, (array.shape, array.strides, array.dtype, None), "numpy", array)


def _from_subclass(array: Any, name: str, queue: Queue | None) -> View:
    """Of NumPy's arrays, such as matrices, whose arithmetic has rules of its own."""
    return _from_numpy(array.view(np.ndarray), name, queue)


def _from_cupy(array: Any, name: str, queue: Queue | None) -> View:
    memory = array.data
    if queue is not None and queue.library not in (None, "cupy"):
        producer = _cuda.cuda.stream(memory.device_id).ptr
        if producer != queue.pointer:
            _cuda.cuda.wait(memory.device_id, queue.pointer, producer)
    return View(memory.ptr, (array.shape, array.strides, array.dtype, memory.device_id), "cupy", array)


def _from_torch(tensor: Any, name: str, queue: Queue | None) -> View:
    torch = sys.modules["torch"]
    if tensor.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense (strided) tensor, got layout {tensor.layout}")
    if tensor.is_neg() or tensor.is_conj():
        raise TypeError(
            f"{name} must hold its values, got a lazily negated or conjugated view: call .resolve_neg() or "
            ".resolve_conj()"
        )
    kind, dtype = tensor.device.type, str(tensor.dtype).removeprefix("torch.")
    if kind == "cpu":
        ordinal = None
    elif kind == "cuda":
        ordinal = tensor.device.index
        if queue is not None and queue.library != "torch":
            producer = torch.cuda.current_stream(ordinal).cuda_stream
            if producer != queue.pointer:
                _cuda.cuda.wait(ordinal, queue.pointer, producer)
                tensor.record_stream(_torch_stream(torch, queue.pointer, ordinal))
    else:
        raise TypeError(f"{name} must be on the CPU or a CUDA device, got {tensor.device}")
    try:
        return View(tensor.data_ptr(), _named(tensor.shape, tensor.stride(), dtype, ordinal), "torch", tensor)
    except RuntimeError as error:
        got = "a nested one" if tensor.is_nested else "one without, as inside torch.func"
        raise TypeError(f"{name} must be a tensor with memory of its own, got {got}") from error


def tell_torch(array: Array, stream: int, ordinal: int) -> None:
    """PyTorch keeps the memory of a tensor of its own until `stream` has done what it has been given so far."""
    kind: Any = type(array)
    if _reader(kind) is _from_torch:
        array.record_stream(_torch_stream(sys.modules["torch"], stream, ordinal))


def _torch_stream(torch: Any, stream: int, ordinal: int) -> Any:
    """PyTorch's object of a stream. For the pointer 0 ExternalStream is another stream (pytorch/pytorch#182960)."""
    if stream in (0, 1):
        return torch.cuda.default_stream(ordinal)
    return torch.cuda.ExternalStream(stream, device=ordinal)


_ORT_NAMES = {"float": "float32", "double": "float64"}
"""ONNX Runtime's names of types where they are not NumPy's."""


def _from_ort(value: Any, name: str, queue: Queue | None) -> View:
    if not value.is_tensor():
        raise TypeError(f"{name} must be a tensor, got an OrtValue of {value.data_type()}")
    shape = tuple(value.shape())
    kind = value.device_name().lower()
    if kind not in ("cpu", "cuda"):
        raise TypeError(f"{name} must be on the CPU or a CUDA device, got an OrtValue on {kind}")
    ordinal = _ort_device_id(value) if kind == "cuda" else None
    element = value.data_type().removeprefix("tensor(").removesuffix(")")
    dtype = _ORT_NAMES.get(element, element)
    return View(value.data_ptr(), _named(shape, contiguous_strides(shape), dtype, ordinal), "onnxruntime", value)


def _ort_device_id(value: Any) -> int:
    exporter = value if hasattr(value, "__dlpack_device__") else value._ortvalue
    return int(exporter.__dlpack_device__()[1])


def _from_dlpack(array: Array, name: str, queue: Queue | None) -> View:
    ordinal = _dlpack.device(array, name)
    order = {} if ordinal is None or queue is None else {"stream": queue.pointer or 1}  # DLPack calls stream 0 1
    capsule, pointer, shape, strides, dtype = _dlpack.tensor(array, name, **order)
    form = _named(shape, contiguous_strides(shape) if strides is None else strides, dtype, ordinal)
    library = type(array).__module__.partition(".")[0]
    return View(pointer, form, "jax" if library.startswith("jax") else library, capsule, readonly=True)


def _from_cuda_array_interface(array: Array, name: str, queue: Queue | None) -> View:
    try:
        interface = array.__cuda_array_interface__
        pointer, readonly = interface["data"]
        dtype = np.dtype(interface["typestr"])
        shape = tuple(interface["shape"])
        strides = interface.get("strides")
        strides = contiguous_strides(shape, dtype.itemsize) if strides is None else tuple(strides)
    except Exception as error:
        raise TypeError(f"{name} must have a whole __cuda_array_interface__, got {_dlpack.said_by(error)}") from error
    if interface.get("mask") is not None:
        raise TypeError(f"{name} must be an array without a mask, got one in __cuda_array_interface__")
    if not pointer and 0 not in shape:
        raise ValueError(f"{name} must lie somewhere, got a null pointer and shape {shape}")
    ordinal = _cuda.cuda.device_of(pointer) if pointer else 0  # an empty array lies nowhere
    producer = interface.get("stream")
    if queue is not None and producer is not None and producer != queue.pointer:
        _cuda.cuda.wait(ordinal, queue.pointer, 0 if producer == 1 else producer)
    return View(pointer, (shape, strides, dtype, ordinal), "cuda_array_interface", array, readonly)


# ---- the way back


def as_numpy(seen: View) -> np.ndarray[Any, Any]:
    """A host view as a NumPy array over the same memory; bfloat16 comes as BFLOAT16."""
    if seen.library == "numpy":
        array: np.ndarray[Any, Any] = seen.owner
        return array
    shape, strides, dtype, _ = seen.form
    if isinstance(dtype, str):
        dtype = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
    if 0 in shape:
        return np.empty(shape, dtype)
    length = sum((size - 1) * stride for size, stride in zip(shape, strides)) + dtype.itemsize
    memory: Any = (ctypes.c_char * length).from_address(seen.pointer)
    memory.owner = seen.owner  # the NumPy array holds `memory`, which holds the owner
    return np.ndarray(shape, dtype, memory, strides=strides)


def is_readonly(seen: View) -> bool:
    return not seen.owner.flags.writeable if seen.library == "numpy" else seen.readonly


def requires_grad(seen: View) -> bool:
    """Whether PyTorch's autograd would have to know that it is written."""
    return seen.library == "torch" and bool(seen.owner.requires_grad)


def from_numpy(array: np.ndarray[Any, Any], library: str) -> Array:
    """A host result in the library of the input."""
    if library == "torch":
        return sys.modules["torch"].from_numpy(array)
    if library == "jax":
        return sys.modules["jax"].numpy.asarray(array)
    return array


def empty(floats: int, ordinal: int, stream: int, library: str) -> tuple[Array, int]:
    """float32 device memory for a result and its pointer: a torch tensor for torch, else a CuPy array."""
    if library == "torch":
        torch = sys.modules["torch"]
        tensor = torch.empty(floats, dtype=torch.float32, device=torch.device("cuda", ordinal))
        return tensor, tensor.data_ptr()
    array = _cuda.cuda.empty(floats, ordinal, stream)
    return array, array.data.ptr


def as_int32(array: Array, library: str) -> Array:
    """float32 device memory of `empty` seen as int32."""
    return array.view(sys.modules["torch"].int32) if library == "torch" else array.view(np.int32)


ORDERED = ("torch", "jax")
"""Libraries whose own next work has to be ordered behind a result: the others work on the stream they are told."""


def hand_over(arrays: tuple[Array, ...], ordinal: int, stream: int, library: str) -> tuple[Array, ...]:
    """Results that `stream` is still to write, in the input's library, ordered before that library's next work."""
    if library == "torch":
        consumer = sys.modules["torch"].cuda.current_stream(ordinal).cuda_stream
        if consumer != stream:
            _cuda.cuda.wait(ordinal, consumer, stream)
    elif library == "jax":
        with _cuda.cuda.on(ordinal, stream):
            return tuple(sys.modules["jax"].dlpack.from_dlpack(array) for array in arrays)
    return arrays


def download(array: Array, stream: int | None) -> np.ndarray[Any, Any]:
    """Any array as NumPy; device memory is copied after `stream`, where given, has done its work."""
    seen = view(array, "array")
    ordinal = seen.form[3]
    if ordinal is None:
        return as_numpy(seen)
    host: np.ndarray[Any, Any]
    if seen.library == "torch":
        consumer = sys.modules["torch"].cuda.current_stream(ordinal).cuda_stream
        if stream is not None and consumer != stream:
            _cuda.cuda.wait(ordinal, consumer, stream)
        host = array.cpu().numpy()  # synchronizes
    elif seen.library == "jax":
        host = np.asarray(array)  # synchronizes
    else:
        if stream is None:
            stream = _cuda.cuda.stream(ordinal).ptr
        host = _cuda.cuda.download(array, ordinal, stream)  # synchronizes
    return host
