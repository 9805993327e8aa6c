"""What the decoders return."""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import math
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import numpy as np

from . import _check, _cuda, _view
from ._dynamo import untraced

PINNED = "pinned"
"""`DeviceMemory.library` of results in host memory that the device writes."""

Shape = tuple[int, ...]


class DeviceMemory(NamedTuple):
    """Where the arrays of a result lie on a device, and the stream that writes them."""

    device: int
    stream: int
    shapes: tuple[Shape, ...]
    library: str
    addresses: tuple[int, ...]
    array: _view.Array | None  # float32, of all of them in a row, where one allocation holds them
    holder: Any  # the stream's object, which must live as long as the stream is used; see `_view.written_by`


Self = TypeVar("Self", bound="Result")


class Result:
    """Arrays that live where the decoder's input lived, in the input's library.

    Unpacks into its first arrays; prints, compares (element by element, NaN equal to NaN), copies and pickles with all
    of them. Comparing, copying deeply and pickling wait for a result on a device, as `.numpy()` does.
    """

    DTYPES: ClassVar[dict[str, str]]
    """Name and dtype of each array, in order."""
    UNPACKED: ClassVar[int]
    """How many arrays it unpacks into; those behind may be None."""

    _memory: DeviceMemory | None = None
    """Of results on a device; None on the host and for arrays put together by hand."""

    @property
    def _arrays(self) -> tuple[_view.Array, ...]:
        """All that are not None."""
        return tuple(array for array in map(self.__dict__.get, self.DTYPES) if array is not None)

    def __iter__(self) -> Iterator[_view.Array]:
        return iter([self.__dict__[name] for name in list(self.DTYPES)[: self.UNPACKED]])

    @untraced
    def numpy(self: Self) -> Self:
        """The same arrays as NumPy, in one copy in place in a row. The one method that waits."""
        memory = self._memory
        if memory is None:
            return type(self)(*(_view.download(array, None) for array in self._arrays))
        if memory.stream == _cuda.PER_THREAD_STREAM or memory.library == PINNED:
            self._wait()
        if memory.library == PINNED or memory.array is None:
            return type(self)(*(_view.download(array, memory.stream) for array in self._arrays))
        flat = _view.download(memory.array, memory.stream)  # synchronizes
        arrays = []
        for array, shape, address, dtype in zip(self._arrays, memory.shapes, memory.addresses, self.DTYPES.values()):
            first = (address - memory.addresses[0]) // 4
            if 0 <= first <= flat.size - math.prod(shape):
                arrays.append(flat[first : first + math.prod(shape)].view(dtype).reshape(shape))
            else:  # allocated apart from the others
                arrays.append(_view.download(array, memory.stream))
        return type(self)(*arrays)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = self.numpy()._arrays, other.numpy()._arrays
        return len(mine) == len(theirs) and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(mine, theirs))

    __hash__ = None  # type: ignore[assignment]

    def _wait(self) -> None:
        """For the arrays to be written. The per-thread stream is another one in this thread than in the one that wrote
        them, whose event is waited for."""
        memory = self._memory
        if memory is None:
            return
        if memory.stream == _cuda.PER_THREAD_STREAM and memory.holder is not None:
            memory.holder.synchronize()  # synchronizes
        _cuda.cuda.synchronize(memory.device, memory.stream)  # synchronizes

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        self._wait()
        return type(self)(*(copy.deepcopy(array, memo) for array in self._arrays))

    def __reduce__(self) -> tuple[Any, ...]:
        self._wait()
        return type(self), self._arrays

    def __copy__(self: Self) -> Self:
        return made(type(self), self._arrays, self._memory)


AnyResult = TypeVar("AnyResult", bound=Result)


def present(keypoints: np.ndarray[Any, Any], scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Which keypoints are there: score above 0, place finite. Whatever stands for absent ones in a decoder's arrays,
    such as MMPose's (-1, -1) taken through a transform, is no place."""
    there: np.ndarray[Any, Any] = (scores > 0) & np.isfinite(keypoints).all(axis=-1)
    return there


def _marked(result: AnyResult, scores: np.ndarray[Any, Any], absent: float) -> AnyResult:
    """`absent` for the coordinates of keypoints that are not there, in a copy of `keypoints`."""
    _check.number(absent, "absent")
    fields: Any = result
    there = present(fields.keypoints, scores)
    marked: Any = dataclasses.replace(
        fields, keypoints=np.where(there[..., None], fields.keypoints, np.float32(absent))
    )
    return cast(AnyResult, marked)


def made(kind: type[AnyResult], arrays: Sequence[_view.Array], memory: DeviceMemory | None = None) -> AnyResult:
    """`kind(*arrays)`, in a third of the time; with `memory` a result that a stream may still be writing."""
    result = object.__new__(kind)
    fields = result.__dict__
    fields.update(zip(kind.DTYPES, arrays))
    if memory is not None:
        fields["_memory"] = memory
    return result


@dataclasses.dataclass(frozen=True, eq=False)
class Keypoints(Result):
    """One person a row: N people with K keypoints each.

    keypoints : (N, K, 2) float32
        (x, y), x to the right, y down, in pixels of the network's input unless a `transform` maps them further. (N,
        K, 3) from volumes: z last.
    scores : (N, K) float32
        Confidence of each keypoint.
    visibility : (N, K) float32
        Where the call asked for it (`decode_simcc(..., visibility=True)`), else None.

    Unpacks as `keypoints, scores`. The arrays live where the decoder's input lived, in the input's library; on a device
    the stream of the call may still be writing them, which `.numpy()` waits for.

    >>> import numpy as np, posepost
    >>> people = posepost.Keypoints(np.zeros((1, 17, 2), np.float32), np.ones((1, 17), np.float32))
    >>> keypoints, scores = people
    >>> people == people.numpy()
    True
    """

    keypoints: _view.Array
    scores: _view.Array
    visibility: _view.Array | None = None

    DTYPES: ClassVar[dict[str, str]] = {"keypoints": "float32", "scores": "float32", "visibility": "float32"}
    UNPACKED: ClassVar[int] = 2

    @untraced
    def numpy(self, *, absent: float | None = None) -> Keypoints:
        """The same arrays as NumPy, in one copy in place in a row. The one method that waits.

        absent: what both coordinates of a keypoint become whose score is not above 0 (or NaN), or whose place is not
            finite, such as math.nan; in a copy. None: what the decoder left there, which is what its reference
            implementation has, such as MMPose's (-1, -1) cells, taken to the image by a `transform`. Not for
            soft-argmax, whose scores do not say whether a keypoint is there.

        >>> import math, numpy as np, posepost
        >>> nothing = posepost.decode_heatmap(np.zeros((1, 1, 8, 6)).astype(np.float32), preset="mmpose_msra")
        >>> nothing.keypoints.tolist(), nothing.numpy(absent=math.nan).keypoints.tolist()
        ([[[-1.0, -1.0]]], [[[nan, nan]]])
        """
        result = super().numpy()
        return result if absent is None else _marked(result, result.scores, absent)


@dataclasses.dataclass(frozen=True, eq=False)
class Poses(Result):
    """All people in each image: B images, room for P people of K keypoints.

    keypoints : (B, P, K, 2) float32
        (x, y), x to the right, y down, in pixels of the network's input unless a `transform` maps them further.
    keypoint_scores : (B, P, K) float32
    scores : (B, P) float32
        Score of each pose.
    count : (B,) int32
        How many poses stand in each image. Rows from there on are zero.

    Unpacks as these four. The arrays live where the decoder's input lived, in the input's library; on a device the
    stream of the call may still be writing them, which `.numpy()` waits for.
    """

    keypoints: _view.Array
    keypoint_scores: _view.Array
    scores: _view.Array
    count: _view.Array

    DTYPES: ClassVar[dict[str, str]] = {
        "keypoints": "float32",
        "keypoint_scores": "float32",
        "scores": "float32",
        "count": "int32",
    }
    UNPACKED: ClassVar[int] = 4

    @untraced
    def numpy(self, *, absent: float | None = None) -> Poses:
        """As `Keypoints.numpy`; `absent` also takes the place of all keypoints of the rows from `count` on."""
        result = super().numpy()
        return result if absent is None else _marked(result, result.keypoint_scores, absent)


@dataclasses.dataclass(frozen=True, eq=False)
class Peaks(Result):
    """The best peaks of each map: B images, K maps an image, room for M = `max_peaks` peaks a map.

    points : (B, K, M, 2) float32
        (x, y) in cells of the map, x to the right, y down, best score first. Rows from `count` on are zero.
    scores : (B, K, M) float32
        The value of each peak, zero from `count` on.
    count : (B, K) int32
        How many peaks stand there, at most M.
    dropped : (B, K) int32
        How many peaks there were beyond `max_peaks`. None for arrays put together by hand.

    Unpacks as `points, scores, count`.
    """

    points: _view.Array
    scores: _view.Array
    count: _view.Array
    dropped: _view.Array | None = None

    DTYPES: ClassVar[dict[str, str]] = {"points": "float32", "scores": "float32", "count": "int32", "dropped": "int32"}
    UNPACKED: ClassVar[int] = 3


def pinned(B: int, K: int, *, device: int = 0, visibility: bool = False) -> Keypoints:
    """Host memory for `out=` that the kernel writes itself: no copy call, one wait.

    B, K : numbers of people and keypoints. device : CUDA ordinal of the maps to be decoded. visibility : with room for
    `decode_simcc(..., visibility=True)`.

    Returns Keypoints of NumPy arrays, (B, K, 2) and (B, K) float32, over page-locked memory mapped into the device's
    address space, zero at first. `.numpy()` of a call's result waits and gives these very arrays: read them before the
    next call that writes here. Raises ValueError for sizes below 0, and what CuPy raises where there is no CUDA device.
    """
    for value, name in ((B, "B"), (K, "K"), (device, "device")):
        _check.count(value, name, 0)
    _check.flag(visibility, "visibility")
    shapes = ((B, K, 2), (B, K), (B, K)) if visibility else ((B, K, 2), (B, K))
    sizes = [math.prod(shape) for shape in shapes]
    pages = _cuda.cuda.pinned(sum(sizes), device)
    address = np.frombuffer(pages, np.float32, sum(sizes)).ctypes.data
    place: Any = (ctypes.c_float * sum(sizes)).from_address(address)
    writer = Writer()
    # CuPy gives pages away again as soon as they are dropped, though a stream may still be writing to them
    weakref.finalize(place, _let_go, pages, device, writer).atexit = False
    memory = np.frombuffer(place, np.float32, sum(sizes))
    memory[:] = 0
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    arrays = tuple(memory[start : start + n].reshape(shape) for start, n, shape in zip(starts, sizes, shapes))
    addresses = tuple(address + 4 * start for start in starts)
    return made(Keypoints, arrays, DeviceMemory(device, 0, shapes, PINNED, addresses, memory, writer))


class Writer:
    """Of pinned memory: the stream that was last told to write it."""

    stream: int | None = None
    holder: Any = None

    def synchronize(self) -> None:
        if self.holder is not None:
            self.holder.synchronize()  # synchronizes


def _let_go(pages: Any, device: int, writer: Writer) -> None:
    if writer.stream is not None:
        _cuda.hold(device, writer.stream, (pages, writer.holder))
