"""Arrays and options that are easily got wrong: every decoder takes them rightly, or refuses them in our words."""

from __future__ import annotations

import decimal
import fractions
import math
import re
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import posepost
from bench.cuda_cpu.seam import ExecutorCuda, to_device
from posepost import _cuda, _dlpack, _launch, _view

from ..helpers import MATRIX, equal

Arrays = dict[str, np.ndarray]
HUGE = 10**400

HEADS: dict[str, tuple[Callable[..., Any], dict[str, tuple[int, ...]], dict[str, Any]]] = {
    "heatmap": (posepost.decode_heatmap, {"heatmaps": (1, 17, 8, 8)}, {}),
    "offset": (
        posepost.decode_heatmap,
        {"heatmaps": (1, 17, 8, 8), "offsets": (1, 34, 8, 8)},
        {"refine": "offset"},
    ),
    "simcc": (posepost.decode_simcc, {"simcc_x": (1, 17, 32), "simcc_y": (1, 17, 48)}, {}),
    "peaks": (posepost.find_peaks, {"heatmaps": (1, 17, 8, 8)}, {"threshold": 0.1, "max_peaks": 3}),
    "posenet": (
        posepost.decode_posenet,
        {"heatmaps": (1, 17, 8, 8), "offsets": (1, 34, 8, 8)},
        {"output_stride": 16},
    ),
    "posenet_multi": (
        posepost.decode_posenet_multi,
        {
            "heatmaps": (1, 17, 8, 8),
            "offsets": (1, 34, 8, 8),
            "displacement_fwd": (1, 32, 8, 8),
            "displacement_bwd": (1, 32, 8, 8),
        },
        {"output_stride": 16},
    ),
}
TRANSFORMED = [head for head in HEADS if head != "peaks"]


def arrays_of(head: str) -> Arrays:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in HEADS[head][1].items()}


def call(head: str, **changed: Any) -> Any:
    decode, _, options = HEADS[head]
    return decode(**{**arrays_of(head), **options, **changed})


def message_of(error: type[Exception], function: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(error) as caught:
        function(**arguments)
    assert type(caught.value) is error
    return str(caught.value)


def torch_or_skip() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


# ---- arrays whose values are not in their memory


class Producer:
    """DLPack from what `give` returns."""

    def __init__(self, give: Callable[..., Any], device: Any = (1, 0)) -> None:
        self.give, self.device = give, device

    def __dlpack__(self, **asked: Any) -> Any:
        return self.give(**asked)

    def __dlpack_device__(self) -> Any:
        return self.device


class Interface:
    def __init__(self, **interface: Any) -> None:
        self.__cuda_array_interface__ = interface


def masked(array: np.ndarray) -> Any:
    return np.ma.masked_array(array, mask=array > 0.3)


def negated(array: np.ndarray) -> Any:
    torch = torch_or_skip()
    lazy = torch.complex(torch.zeros(array.shape), -torch.from_numpy(array)).conj().imag
    assert lazy.is_neg()
    return lazy


def conjugated(array: np.ndarray) -> Any:
    return torch_or_skip().from_numpy(array + 0j).conj()


def nested(array: np.ndarray) -> Any:
    torch = torch_or_skip()
    return torch.nested.nested_tensor([torch.zeros(3, 4), torch.zeros(2, 4)])


def jagged(array: np.ndarray) -> Any:
    torch = torch_or_skip()
    return torch.nested.nested_tensor([torch.zeros(3, 4), torch.zeros(2, 4)], layout=torch.jagged)


def fake(array: np.ndarray) -> Any:
    torch = torch_or_skip()
    with torch._subclasses.fake_tensor.FakeTensorMode():
        return torch.zeros(array.shape)


def quantized(array: np.ndarray) -> Any:
    torch = torch_or_skip()
    return torch.quantize_per_tensor(torch.from_numpy(array), 0.1, 0, torch.qint8)


TYPES = "must be float32, float16, bfloat16, uint8 or int8, got"
NO_VALUES: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "masked": (masked, "must be an array without a mask: fill it, as with .filled(0), got MaskedArray"),
    "object": (lambda array: array.astype(object), f"{TYPES} object"),
    "structured": (lambda array: np.zeros(array.shape, [("a", "f4")]), f"{TYPES} void32"),
    "big-endian": (lambda array: array.astype(">f4"), f"{TYPES} >f4"),
    "complex": (lambda array: array + 0j, f"{TYPES} complex64"),
    "negated": (
        negated,
        "must hold its values, got a lazily negated or conjugated view: call .resolve_neg() or .resolve_conj()",
    ),
    "conjugated": (
        conjugated,
        "must hold its values, got a lazily negated or conjugated view: call .resolve_neg() or .resolve_conj()",
    ),
    "nested": (nested, "must be a tensor with memory of its own, got a nested one"),
    "jagged": (jagged, "must be a tensor with memory of its own, got NestedTensor"),
    "fake": (fake, "must be a tensor with memory of its own, got FakeTensor"),
    "sparse": (
        lambda array: torch_or_skip().from_numpy(array).to_sparse(),
        "must be a dense (strided) tensor, got layout torch.sparse_coo",
    ),
    "meta": (
        lambda array: torch_or_skip().empty(array.shape, device="meta"),
        "must be on the CPU or a CUDA device, got meta",
    ),
    "quantized": (quantized, f"{TYPES} qint8"),
    "no capsule": (
        lambda array: Producer(lambda **asked: 5),
        "must give its memory by DLPack, got ValueError: PyCapsule_GetPointer called with invalid PyCapsule object",
    ),
    "no device": (
        lambda array: Producer(lambda **asked: 5, "abc"),
        "must say by DLPack where it lies, got ValueError: invalid literal for int() with base 10: 'a'",
    ),
    "deleted": (
        lambda array: Producer(lambda **asked: exec("raise RuntimeError('Array has been\\n deleted.')")),
        "must give its memory by DLPack, got RuntimeError: Array has been deleted.",
    ),
    "empty interface": (
        lambda array: Interface(),
        "must have a whole __cuda_array_interface__, got KeyError: 'data'",
    ),
    "mask in the interface": (
        lambda array: Interface(data=(1, False), typestr="<f4", shape=array.shape, mask=array, version=3),
        "must be an array without a mask, got one in __cuda_array_interface__",
    ),
}


@pytest.mark.filterwarnings("ignore:.*(nested tensors|quantize_per_tensor)")
@pytest.mark.parametrize("kind", NO_VALUES)
@pytest.mark.parametrize("head", HEADS)
def test_arrays_without_plain_values_are_refused_by_name(head: str, kind: str) -> None:
    make, words = NO_VALUES[kind]
    for name, array in arrays_of(head).items():
        message = message_of(TypeError, lambda **given: call(head, **given), **{name: make(array)})
        assert message == f"{name} {words}"


@pytest.mark.parametrize("head", HEADS)
def test_a_null_pointer_is_no_array(head: str) -> None:
    for name, array in arrays_of(head).items():
        null = Interface(data=(0, False), typestr="<f4", shape=array.shape, version=3)
        message = message_of(ValueError, lambda **given: call(head, **given), **{name: null})
        assert message == f"{name} must lie somewhere, got a null pointer and shape {array.shape}"


@pytest.mark.parametrize("head", HEADS)
def test_inside_a_jax_trace_there_are_no_values(head: str) -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    for name, array in arrays_of(head).items():
        traced = jax.jit(lambda given, name=name: next(iter(call(head, **{name: given}))))
        message = message_of(TypeError, lambda traced=traced, array=array: traced(array))
        assert message == (
            f"{name} must be an array that has values, got a JAX tracer: call posepost outside jax.jit, or through "
            "jax.pure_callback"
        )


def test_a_jax_trace_calls_back() -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    shape = jax.ShapeDtypeStruct((1, 17, 2), np.float32)

    @jax.jit
    def points(maps: Any) -> Any:
        return jax.pure_callback(lambda given: posepost.decode_heatmap(given).keypoints, shape, maps)

    equal(points(arrays_of("heatmap")["heatmaps"]), call("heatmap").keypoints)


def test_inside_torch_func_there_is_no_memory() -> None:
    torch = torch_or_skip()
    maps = torch.zeros(2, 1, 17, 8, 8)
    message = message_of(TypeError, lambda: torch.func.vmap(lambda one: posepost.decode_heatmap(one).keypoints)(maps))
    assert message == "heatmaps must be a tensor with memory of its own, got one without, as inside torch.func"


# ---- arrays that were refused or misread, and are plain enough


def dlpack_1_or_skip() -> None:
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip(f"NumPy {np.__version__} does not speak DLPack 1.0")


def read_only(array: np.ndarray) -> Any:
    dlpack_1_or_skip()
    frozen = array.copy()
    frozen.flags.writeable = False
    return Producer(frozen.__dlpack__, frozen.__dlpack_device__())


def inference(array: np.ndarray) -> Any:
    torch = torch_or_skip()
    with torch.inference_mode():
        return torch.from_numpy(array).clone()


def subclass(array: np.ndarray) -> Any:
    class Squared(np.ndarray):
        def __array_ufunc__(self, *given: Any, **more: Any) -> Any:
            raise AssertionError("arithmetic of a subclass")

    return array.view(Squared)


PLAIN: dict[str, Callable[[np.ndarray], Any]] = {
    "read-only by DLPack": read_only,
    "DLPack 1.0": lambda array: dlpack_1_or_skip() or Producer(lambda **asked: array.__dlpack__(max_version=(1, 0))),
    "read-only": lambda array: np.broadcast_to(array, array.shape),
    "requires grad": lambda array: torch_or_skip().from_numpy(array).requires_grad_(),
    "parameter": lambda array: torch_or_skip().nn.Parameter(torch_or_skip().from_numpy(array)),
    "inference": inference,
    "subclass": subclass,
    "reversed batch of one": lambda array: array[::-1],
}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("head", HEADS)
def test_arrays_with_plain_values_are_read(head: str, kind: str) -> None:
    got = call(head, **{name: PLAIN[kind](array) for name, array in arrays_of(head).items()})
    assert got.numpy() == call(head)


def test_a_reversed_batch_of_one_is_read_on_a_device(cpu_cuda: ExecutorCuda) -> None:
    maps = to_device(arrays_of("heatmap")["heatmaps"])
    equal(posepost.decode_heatmap(maps[::-1]).numpy().keypoints, call("heatmap").keypoints)
    two = to_device(np.zeros((2, 17, 8, 8), np.float32))
    message = message_of(ValueError, posepost.decode_heatmap, heatmaps=two[::-1])
    assert message == "heatmaps must not have negative strides, got (-1088, 64, 8, 1); pass a contiguous copy"


def test_what_a_producer_from_before_dlpack_1_says_is_said() -> None:
    def give() -> Any:
        raise BufferError("read-only")

    message = message_of(TypeError, posepost.decode_heatmap, heatmaps=Producer(give))
    assert message == "heatmaps must give its memory by DLPack, got BufferError: read-only"


def test_a_dlpack_of_another_age_is_not_guessed_at() -> None:
    dlpack_1_or_skip()
    array = arrays_of("heatmap")["heatmaps"]

    def give(**asked: Any) -> Any:
        capsule = array.__dlpack__(max_version=(1, 0))
        _dlpack.Versioned.from_address(_dlpack.capsule_pointer(capsule, b"dltensor_versioned")).major = 2
        return capsule

    message = message_of(TypeError, posepost.decode_heatmap, heatmaps=Producer(give))
    assert message.startswith("heatmaps must give its memory by DLPack, got BufferError: a capsule of DLPack 2.")


def test_out_of_a_tensor_that_requires_grad_is_refused() -> None:
    torch = torch_or_skip()
    out = torch.zeros(1, 17, 2, requires_grad=True), torch.zeros(1, 17)
    message = message_of(ValueError, call, head="heatmap", out=out)
    assert message == "out.keypoints must not require grad: autograd would not notice that it is written"


# ---- transforms on the host


def onnx_value(array: np.ndarray) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def tensor(dtype: str) -> Callable[[np.ndarray], Any]:
    return lambda array: torch_or_skip().from_numpy(array).to(getattr(torch_or_skip(), dtype))


WHOLE = np.array([[2, 0, -3], [1, 4, 5]], np.float32)
HOST_MATRICES: dict[str, Callable[[np.ndarray], Any]] = {
    **{f"torch {dtype}": tensor(dtype) for dtype in ("float64", "bfloat16", "float16", "int32", "int64", "int16")},
    "torch transposed": lambda array: torch_or_skip().from_numpy(array.T.copy()).double().T,
    "jax": lambda array: pytest.importorskip("jax.numpy", reason="JAX is not installed").asarray(array, "int32"),
    "ort": lambda array: onnx_value(array.astype(np.float64)),
    "dlpack": lambda array: Producer(array.astype(np.float64).__dlpack__),
    "big-endian": lambda array: array.astype(">f8"),
    "bits of bfloat16": lambda array: (array.view(np.uint32) >> 16).astype(np.uint16).view(_view.BFLOAT16),
    "ints": lambda array: array.astype(int).tolist(),
    "matrix": lambda array: np.asmatrix(array),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("kind", HOST_MATRICES)
@pytest.mark.parametrize("head", TRANSFORMED)
def test_a_host_transform_of_any_real_type_is_not_read_as_other_bits(head: str, kind: str) -> None:
    assert call(head, transform=HOST_MATRICES[kind](WHOLE)) == call(head, transform=WHOLE)


WANTED = "transform must be numbers of shape (2, 3) or (1, 2, 3), got"
BAD_MATRICES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "complex": (lambda: MATRIX + 0j, TypeError, f"{WANTED} dtype complex64"),
    "bool": (lambda: MATRIX > 0, TypeError, f"{WANTED} dtype bool"),
    "object": (lambda: np.full((2, 3), None), TypeError, f"{WANTED} dtype object"),
    "text": (lambda: [["1", "0", "0"], ["0", "1", "0"]], TypeError, f"{WANTED} [['1', '0', '0'], ['0', '1', '0']]"),
    "date": (lambda: np.zeros((2, 3), "M8[s]"), TypeError, f"{WANTED} dtype datetime64[s]"),
    "structured": (lambda: np.zeros((2, 3), [("a", "f4")]), TypeError, f"{WANTED} dtype [('a', '<f4')]"),
    "ragged": (lambda: [[1, 0, 0], [0, 1]], TypeError, f"{WANTED} [[1, 0, 0], [0, 1]]"),
    "none": (lambda: [[1, 0, None], [0, 1, 0]], TypeError, f"{WANTED} [[1, 0, None], [0, 1, 0]]"),
    "huge": (lambda: [[HUGE, 0, 0], [0, 1, 0]], TypeError, f"{WANTED} [[1{'0' * 400}, 0, 0], [0, 1, 0]]"),
    "torch complex": (lambda: tensor("complex64")(MATRIX), TypeError, f"{WANTED} dtype complex64"),
    "torch quantized": (lambda: quantized(MATRIX), TypeError, f"{WANTED} dtype qint8"),
    "masked": (
        lambda: masked(MATRIX),
        TypeError,
        "transform must be an array without a mask: fill it, as with .filled(0), got MaskedArray",
    ),
    "beyond float32": (
        lambda: MATRIX.astype(np.float64) * 1e300,
        ValueError,
        "transform must be in the range of float32, up to 3.4e38, got numbers beyond",
    ),
}


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
@pytest.mark.parametrize("kind", BAD_MATRICES)
@pytest.mark.parametrize("head", TRANSFORMED)
def test_a_transform_that_is_no_real_matrix_is_refused(head: str, kind: str) -> None:
    make, error, message = BAD_MATRICES[kind]
    assert message_of(error, call, head=head, transform=make()) == message


# ---- numbers, choices and flags


NUMBERS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (lambda **given: call("posenet", **given), dict(output_stride=16)),
    (lambda **given: call("posenet_multi", **given), dict(output_stride=16, score_threshold=0.5, nms_radius=20.0)),
    (lambda **given: call("heatmap", **given), dict(center_shift=0.5, threshold=0.1, absent=-1.0)),
    (lambda **given: call("simcc", **given), dict(split_ratio=2, sigma=6, beta=150, threshold=0.1, absent=-1.0)),
    (lambda **given: call("peaks", **given), dict(threshold=0.1)),
    (posepost.Dark, dict(blur_sigma=2)),
    (posepost.DarkUDP, dict(blur_sigma=2)),
    (posepost.UDPCombined, dict(blur_sigma=2)),
    (posepost.Megvii, dict(blur_sigma=2)),
    (posepost.SoftArgmax, dict(temperature=1)),
    (posepost.Offset, dict(scale=7)),
    (lambda **given: posepost.box_to_crop([[0, 0, 5, 5]], (192, 256), **given), dict(padding=1.25)),
]
COUNTS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (lambda **given: call("posenet_multi", **given), dict(max_poses=3)),
    (lambda **given: call("posenet_multi", mode="coral", **given), dict(refinement_steps=3)),
    (lambda **given: call("peaks", **given), dict(max_peaks=3, nms_window=3)),
    (posepost.Dark, dict(blur=11)),
    (posepost.Centroid, dict(window=5)),
    (posepost.SoftArgmax, dict(window=5)),
    (posepost.pinned, dict(B=1, K=1, device=0)),
]
FLAGS: list[tuple[Callable[..., Any], str]] = [
    (lambda **given: call("simcc", **given), "visibility"),
    (posepost.Centroid, "positive"),
    (posepost.SoftArgmax, "debias"),
    (lambda **given: posepost.Flip(np.zeros((1, 2, 3, 3), np.float32), (1, 0), **given), "shift"),
    (lambda **given: posepost.crop_to_image([[5, 5]], [[9, 9]], (192, 256), **given), "udp"),
    (lambda **given: posepost.pinned(1, 1, **given), "visibility"),
]


def no_numbers() -> list[Any]:
    found = ["1", b"1", 1j, [1], {1: 2}, True, np.True_, decimal.Decimal(1), fractions.Fraction(1), np.array(1.0), len]
    torch = sys.modules.get("torch")
    return found if torch is None else [*found, torch.tensor(1.0), torch.tensor([1.0, 2.0])]


@pytest.mark.parametrize("number", range(len(NUMBERS)))
def test_numbers_are_numbers_that_float32_holds(number: int) -> None:
    """10**400 was an OverflowError, 1e300 infinitely many pixels."""
    function, arguments = NUMBERS[number]
    for name, usual in arguments.items():
        function(**{name: np.float32(usual)})
        for value, said in ((HUGE, "an int of 1329 bits"), (-HUGE, "an int of 1329 bits"), (1e300, "1e+300")):
            message = message_of(ValueError, function, **{name: value})
            ranged = f"{name} must be in the range of float32, up to 3.4e38, got {said}"
            assert message in (ranged, f"{name} must be from 0 to 1, got {said}")
        for value in no_numbers():
            if name != "sigma" or value != [1]:  # which may be two numbers
                message = message_of(TypeError, function, **{name: value})
                assert message == f"{name} must be a number, got {type(value).__name__}"


@pytest.mark.parametrize(
    "name", ["output_stride", "split_ratio", "sigma", "beta", "blur_sigma", "temperature", "padding"]
)
def test_a_number_that_float32_takes_for_0_is_not_above_0(name: str) -> None:
    """blur_sigma=1e-200 was a ZeroDivisionError, output_stride=1e-320 put everything to 0."""
    for function, arguments in NUMBERS:
        if name in arguments:
            message = message_of(ValueError, function, **{name: 1e-200})
            assert message == f"{name} must be at least 1.2e-38, the smallest that float32 holds well, got 1e-200"


@pytest.mark.parametrize("number", range(len(COUNTS)))
def test_counts_are_ints_of_31_bits(number: int) -> None:
    function, arguments = COUNTS[number]
    for name in arguments:
        for value in (HUGE, -HUGE):
            message = message_of(ValueError, function, **{**arguments, name: value})
            assert re.fullmatch(f"{name} must be .*, got an int of 1329 bits", message)
        for value in (1.0, math.inf, *no_numbers()):
            message = message_of(TypeError, function, **{**arguments, name: value})
            assert message == f"{name} must be an int, got {type(value).__name__}"


@pytest.mark.parametrize("number", range(len(FLAGS)))
def test_flags_are_true_or_false(number: int) -> None:
    function, name = FLAGS[number]
    values: list[Any] = ["no", 0, [[1]], None, math.nan, np.array([1, 2])]
    if "torch" in sys.modules:
        values.append(sys.modules["torch"].tensor([1.0, 2.0]))  # whose truth is ambiguous
    for value in values:
        message = message_of(TypeError, function, **{name: value})
        assert message == f"{name} must be a bool, got {type(value).__name__}"


CHOICES = {
    "heatmap": ("refine", "preset", "scaling", "layout", "activation"),
    "simcc": ("refine", "preset", "normalize", "activation"),
    "peaks": ("plateau", "refine", "layout", "activation"),
    "posenet": ("layout", "activation"),
    "posenet_multi": ("mode", "layout", "activation"),
}


@pytest.mark.parametrize("head", CHOICES)
def test_an_array_where_a_name_is_expected_is_refused_by_name(head: str) -> None:
    """It was "the truth value of an array is ambiguous", or "unhashable type"."""
    for name in CHOICES[head]:
        for value in (np.array(["NCHW", "x"]), ["NCHW"], {}, memoryview(b"NCHW"), memoryview(bytearray(4)), 1.0):
            message = message_of(ValueError, call, head=head, **{name: value})
            assert re.match(f'{name} must be ".*, got ', message)


NO_SIZES: list[Any] = ["12", ("1", "2"), {1, 2}, {1: 2, 2: 3}, (True, True), (None, None), b"12", 1j]


@pytest.mark.parametrize(
    ("function", "value"),
    [("decode_heatmap", value) for value in NO_SIZES]
    + [(f, value) for f in ("box_to_crop", "crop_to_image", "letterbox_to_image") for value in (*NO_SIZES, None)],
)
def test_an_input_size_of_text_or_without_order_is_refused(function: str, value: Any) -> None:
    given: dict[str, tuple[Any, ...]] = {
        "decode_heatmap": (arrays_of("heatmap")["heatmaps"],),
        "box_to_crop": ([[0, 0, 5, 5]],),
        "crop_to_image": ([[5, 5]], [[9, 9]]),
        "letterbox_to_image": ([[640, 480]],),
    }
    decode = getattr(posepost, function)
    message = message_of(TypeError, lambda: decode(*given[function], input_size=value))
    assert message == f"input_size must be (w, h), got {value!r}"


def test_an_input_size_that_changes_in_place_is_refused() -> None:
    """A tensor is its own key, so that the plan of its first values was found again."""
    torch = torch_or_skip()
    size = torch.tensor([16.0, 16.0])
    for given, said in ((size, repr(size)), (tuple(size), repr(tuple(size)))):
        assert message_of(TypeError, call, head="heatmap", input_size=given) == f"input_size must be (w, h), got {said}"
    in_numpy = np.array([16.0, 16.0])
    maps = arrays_of("heatmap")["heatmaps"]
    first = posepost.decode_heatmap(maps, input_size=in_numpy).keypoints
    in_numpy *= 10
    equal(posepost.decode_heatmap(maps, input_size=in_numpy).keypoints, first * 10)


@pytest.mark.parametrize("size", [(HUGE, 1), (1e300, 1e300), (1e-50, 1e-50), (math.nan, 1), (math.inf, 1)])
def test_an_input_size_is_finite_in_float32(size: tuple[float, float]) -> None:
    message = message_of(ValueError, call, head="heatmap", input_size=size)
    assert message == f"input_size must be finite and above 0, got {size}"


def test_nan_is_no_option() -> None:
    assert message_of(ValueError, call, head="heatmap", center_shift=math.nan) == "center_shift must be finite, got nan"
    assert message_of(ValueError, posepost.Offset, scale=math.nan) == "scale must be finite, got nan"
    for head in ("heatmap", "simcc"):
        assert message_of(ValueError, call, head=head, threshold=math.nan) == "threshold must be a number, got nan"


PAIR = "quantization['heatmaps'] must be (scale, zero_point), got"
BAD_SCALES: list[tuple[Any, type[Exception], str]] = [
    (("0.5", 1), TypeError, f"{PAIR} ('0.5', 1)"),
    ((0.5, "1"), TypeError, f"{PAIR} (0.5, '1')"),
    ((True, 0), TypeError, f"{PAIR} (True, 0)"),
    ((1.0, False), TypeError, f"{PAIR} (1.0, False)"),
    ("12", TypeError, f"{PAIR} '12'"),
    ({1, 2}, TypeError, f"{PAIR} {{1, 2}}"),
    ((1.0, 1, 2), TypeError, f"{PAIR} (1.0, 1, 2)"),
    ((1.0, math.inf), ValueError, "quantization['heatmaps'] must have a whole zero_point from -128 to 127, got inf"),
    ((1.0, math.nan), ValueError, "quantization['heatmaps'] must have a whole zero_point from -128 to 127, got nan"),
    ((1.0, HUGE), ValueError, "quantization['heatmaps'] must have a whole zero_point from -128 to 127, got an int of 1329 bits"),  # noqa: E501
    ((HUGE, 0), ValueError, "quantization['heatmaps'] must have a finite scale above 0, got an int of 1329 bits"),
    ((1e-300, 0), ValueError, "quantization['heatmaps'] must have a finite scale above 0, got 1e-300"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(BAD_SCALES)))
def test_a_scale_is_a_number_whatever_was_taken_before(case: int) -> None:
    """Strings were read as numbers; True passed once 1 had."""
    pair, error, message = BAD_SCALES[case]
    maps = np.zeros((1, 17, 8, 8), np.int8)
    posepost.decode_heatmap(maps, quantization={"heatmaps": (1, 0)})
    posepost.decode_heatmap(maps, quantization={"heatmaps": [1.0, 0]})
    assert message_of(error, posepost.decode_heatmap, heatmaps=maps, quantization={"heatmaps": pair}) == message


def test_scales_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were at every call."""
    checks: list[Any] = []
    checked = _launch._checked_quantization
    monkeypatch.setattr(_launch, "_checked_quantization", lambda *given: checks.append(given) or checked(*given))
    _launch._known_quantization.cache_clear()
    maps = np.zeros((1, 17, 8, 8), np.int8)
    for _ in range(3):
        posepost.decode_heatmap(maps, quantization={"heatmaps": (0.5, 1)})
    assert len(checks) == 1
    _launch._known_quantization.cache_clear()


def test_a_flip_without_maps_is_not_left_out_in_silence() -> None:
    words = "must be a NumPy, CuPy, PyTorch or JAX array"
    for head, maps, name in (
        ("heatmap", None, "flip.maps"),
        ("simcc", (None, None), "flip.maps[0]"),
        ("simcc", (np.zeros((1, 17, 32), np.float32), None), "flip.maps[1]"),
    ):
        message = message_of(TypeError, call, head=head, flip=posepost.Flip(maps, range(17)))
        assert message.startswith(f"{name} {words}")


def test_find_peaks_takes_scores_for_scores() -> None:
    """A sigmoid by default made 0.5 and more of all that was 0 and more."""
    maps = np.zeros((1, 1, 8, 8), np.float32)
    maps[0, 0, 2, 3], maps[0, 0, 6, 5] = 0.75, 0.25
    peaks = posepost.find_peaks(maps, threshold=0.5, max_peaks=4)
    assert (peaks.count.tolist(), peaks.scores[0, 0, 0], peaks.points[0, 0, 0].tolist()) == ([[1]], 0.75, [3, 2])
    for decode in {decode for decode, _, _ in HEADS.values()}:
        assert decode.__kwdefaults__["activation"] is None


# ---- boxes


MATRICES: list[tuple[Callable[..., Any], dict[str, Any], type[Exception], str]] = [
    (posepost.crop_to_image, {"centers": [[HUGE, 1]]}, TypeError, f"centers must be numbers of shape (N, 2), got {[[HUGE, 1]]}"),  # noqa: E501
    (posepost.crop_to_image, {"centers": [[1e39, 1]]}, ValueError, "centers must be finite, got [[1e+39, 1]]"),
    (posepost.crop_to_image, {"scales": [["9", "9"]]}, TypeError, "scales must be numbers of shape (N, 2), got [['9', '9']]"),  # noqa: E501
    (posepost.crop_to_image, {"rotations": "12"}, TypeError, "rotations must be numbers of shape () or (1,), got '12'"),
    (posepost.letterbox_to_image, {"image_sizes": [[640, 1j]]}, TypeError, "image_sizes must be numbers of shape (N, 2), got [[640, 1j]]"),  # noqa: E501
    (posepost.letterbox_to_image, {"image_sizes": np.ma.masked_array([[1, 2]], [[0, 1]])}, TypeError, "image_sizes must be an array without a mask: fill it, as with .filled(0), got MaskedArray"),  # noqa: E501
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(MATRICES)))
def test_sizes_of_crops_are_numbers(case: int) -> None:
    function, changed, error, message = MATRICES[case]
    given = {
        posepost.crop_to_image: {"centers": [[5, 5]], "scales": [[9, 9]]},
        posepost.letterbox_to_image: {"image_sizes": [[640, 480]]},
    }[function]
    assert message_of(error, function, **{**given, "input_size": (192, 256), **changed}) == message


def test_boxes_and_sizes_of_torch_are_read() -> None:
    torch = torch_or_skip()
    boxes, sizes = torch.tensor([[60.0, 30.0, 110.0, 120.0]]), torch.tensor([[640.0, 480.0]])
    expected = posepost.box_to_crop([[60, 30, 110, 120]], (192, 256))
    matrix = posepost.letterbox_to_image([[640, 480]], (192, 256))
    for change in (lambda a: a.requires_grad_(), lambda a: a.bfloat16(), lambda a: a.long(), lambda a: a.double()):
        equal(posepost.box_to_crop(change(boxes.clone()), (192, 256)), expected)
        equal(posepost.letterbox_to_image(change(sizes.clone()), (192, 256)), matrix)
    lazy = torch.complex(torch.zeros(1, 4), -boxes).conj().imag
    equal(posepost.box_to_crop(lazy, (192, 256)), expected)


# ---- torch.compile

COMPILED = """
import sys, time
import numpy as np
{first}
import posepost
import torch
from torch._dynamo.utils import counters

def maps(*shape):
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype("f4"))

H, O, D, V = maps(1, 17, 8, 8), maps(1, 34, 8, 8), maps(1, 32, 8, 8), maps(1, 17, 40)
calls = [
    lambda: posepost.decode_heatmap(H * 2, refine=posepost.Dark(blur=9), input_size=(32, 32)).keypoints + 1,
    lambda: posepost.decode_simcc(V * 2, V).keypoints + 1,
    lambda: posepost.find_peaks(H * 2, threshold=0.1, max_peaks=3).points + 1,
    lambda: posepost.decode_posenet(H * 2, O, output_stride=16).keypoints + 1,
    lambda: posepost.decode_posenet_multi(H * 2, O, D, D, output_stride=16).keypoints + 1,
    lambda: posepost.decode_heatmap(H * 2).numpy().keypoints,
]
for call in calls:
    torch._dynamo.reset()
    counters.clear()
    got = torch.compile(call, backend="eager")()
    print(np.array_equal(got, call()), sum(counters["graph_break"].values()), counters["frames"]["total"])
"""


@pytest.mark.parametrize("first", ["import torch", ""])
def test_torch_compile_does_not_trace_into_numpy(first: str) -> None:
    """Whichever of both is imported first: one graph break, and the caller's two frames. It was nine breaks."""
    torch = torch_or_skip()
    if not hasattr(torch._C._dynamo.eval_frame, "set_code_exec_strategy"):
        pytest.skip(f"PyTorch {torch.__version__} cannot be told without importing its compiler")
    code = COMPILED.format(first=first)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == ["True 1 2"] * 6


def test_a_pytorch_with_other_internals_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It traces on; and one that is still being imported has none."""
    frames = types.SimpleNamespace(set_code_exec_strategy=None)
    in_part = types.SimpleNamespace(_C=types.SimpleNamespace(_dynamo=types.SimpleNamespace(eval_frame=frames)))
    for torch in (types.SimpleNamespace(), in_part):
        monkeypatch.setitem(sys.modules, "torch", torch)
        assert bool(vars(posepost.decode_heatmap)["_torchdynamo_disable"]) is True


def test_a_marked_function_is_itself() -> None:
    """No wrapper at each call."""
    for decode in {decode for decode, _, _ in HEADS.values()}:
        assert isinstance(decode, types.FunctionType)
        assert decode.__code__.co_filename.endswith(f"{decode.__module__.rpartition('.')[2]}.py")
        assert "_torchdynamo_disable" in vars(decode)


# ---- a Python without CuPy


@pytest.mark.parametrize("head", HEADS)
def test_a_device_array_without_cupy_says_what_to_install(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it is an ImportError
    monkeypatch.setattr(_cuda, "cuda", _cuda._Seam())
    arrays = arrays_of(head)
    name = next(iter(arrays))
    lies = "lies" if head == "simcc" else "lie"
    install = 'decoding there needs CuPy: pip install "posepost[cuda13]" or "posepost[cuda12]"'

    def on_device(array: np.ndarray) -> Any:
        return Producer(lambda **asked: array.__dlpack__(), (2, 0))

    message = message_of(ImportError, call, head=head, **{k: on_device(array) for k, array in arrays.items()})
    assert message == f"{name} {lies} on cuda:0, and {install}"
    there = Interface(data=(64, False), typestr="<f4", shape=arrays[name].shape, version=3)
    assert message_of(ImportError, call, head=head, **{name: there}) == f"{name} {lies} on a CUDA device, and {install}"


def test_pinned_memory_without_cupy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(_cuda, "cuda", _cuda._Seam())
    with pytest.raises(ImportError) as caught:
        posepost.pinned(1, 2)
    assert str(caught.value) == 'a CUDA device needs CuPy: pip install "posepost[cuda13]" or "posepost[cuda12]"'
