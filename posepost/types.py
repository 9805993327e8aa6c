"""What the decoders return."""

from __future__ import annotations

import ctypes
import math
import weakref
from typing import Any, NamedTuple

import numpy as np

from . import _kernels, _view

PINNED = "pinned"
"""`Origin.library` of results in host memory that the device writes."""


class Origin(NamedTuple):
    """Where a result on a device was written, and by whom."""

    device: int
    library: str
    keypoints: int  # address
    scores: int  # address
    stream: int
    memory: _view.Array | None  # the arrays in a row, where one allocation holds them
    shape: tuple[int, int, int]  # of keypoints: rows, keypoints, coordinates
    visibility: int = 0  # address, where it was asked for
    holder: Any = None  # the stream's object, which must live as long as the stream is used; see `_view.written_by`


class _Keypoints(NamedTuple):
    keypoints: _view.Array
    scores: _view.Array


class Keypoints(_Keypoints):
    """One person a row: N people with K keypoints each.

    keypoints : (N, K, 2) float32
        (x, y), x to the right, y down, in pixels of the network's input unless a `transform` maps them further. (N,
        K, 3) from volumes: z last.
    scores : (N, K) float32
        Confidence of each keypoint.

    Unpacks as a tuple. The arrays live where the decoder's input lived, in the input's library; on a device the stream
    of the call may still be writing them, which `.numpy()` waits for.
    """

    visibility: _view.Array | None = None
    """(N, K) float32 where the call asked for it, else None. No field of the tuple."""

    origin: Origin | None = None
    """For results on a device; None on the host and for arrays put together by hand."""

    def numpy(self) -> Keypoints:
        """The same keypoints as NumPy arrays, in one copy where they lie in a row. The one method that waits."""
        stream = self.origin.stream if self.origin else None
        if self.origin is not None:
            _wait_for_thread(self.origin.stream, self.origin.holder)
        if self.origin is not None and self.origin.library == PINNED:
            _kernels.cuda.synchronize(self.origin.device, self.origin.stream)  # synchronizes
            result = Keypoints(self.keypoints, self.scores)
        elif self.origin is None or self.origin.memory is None:
            result = Keypoints(_view.download(self.keypoints, stream), _view.download(self.scores, stream))
        else:
            flat = _view.download(self.origin.memory, stream)
            points, people = math.prod(self.keypoints.shape), math.prod(self.scores.shape)
            first = (self.origin.scores - self.origin.keypoints) // 4
            scores = flat[first : first + people].reshape(self.scores.shape)
            result = Keypoints(flat[:points].reshape(self.keypoints.shape), scores)
            first = (self.origin.visibility - self.origin.keypoints) // 4
            if self.visibility is not None and 0 < first < flat.size:
                result.visibility = flat[first : first + people].reshape(self.scores.shape)
                return result
        if self.visibility is not None:
            result.visibility = _view.download(self.visibility, stream)
        return result


class _Poses(NamedTuple):
    keypoints: _view.Array
    keypoint_scores: _view.Array
    scores: _view.Array
    count: _view.Array


class Poses(_Poses):
    """Everybody in each image: B images, room for P people of K keypoints.

    keypoints : (B, P, K, 2) float32
        (x, y), x to the right, y down, in pixels of the network's input unless a `transform` maps them further.
    keypoint_scores : (B, P, K) float32
    scores : (B, P) float32
        Score of each pose.
    count : (B,) int32
        How many poses stand in each image. Rows from there on are zero.

    Unpacks as a tuple. The arrays live where the decoder's input lived, in the input's library; on a device the stream
    of the call may still be writing them, which `.numpy()` waits for.
    """

    stream: int | None = None
    """Pointer of the stream that writes the arrays; None on the host."""

    holder: Any = None
    """The stream's object, which must live as long as the stream is used."""

    def numpy(self) -> Poses:
        """The same poses as NumPy arrays. The one method that waits."""
        _wait_for_thread(self.stream, self.holder)
        return Poses(*(_view.download(array, self.stream) for array in self))


class _Peaks(NamedTuple):
    points: _view.Array
    scores: _view.Array
    count: _view.Array


class Peaks(_Peaks):
    """The best peaks of each map: B images, K maps an image, room for M = `max_peaks` peaks a map.

    points : (B, K, M, 2) float32
        (x, y) in cells of the map, x to the right, y down, best score first. Rows from `count` on are zero.
    scores : (B, K, M) float32
        The value of each peak, zero from `count` on.
    count : (B, K) int32
        How many peaks stand there, at most M.

    Unpacks as a tuple of these three.
    """

    left_out: _view.Array = None
    """(B, K) int32: how many peaks there were beyond `max_peaks`. None for arrays put together by hand."""

    stream: int | None = None
    """Pointer of the stream that writes the arrays; None on the host."""

    holder: Any = None
    """The stream's object, which must live as long as the stream is used."""

    def numpy(self) -> Peaks:
        """The same peaks as NumPy arrays. The one method that waits."""
        _wait_for_thread(self.stream, self.holder)
        peaks = Peaks(*(_view.download(array, self.stream) for array in self))
        if self.left_out is not None:
            peaks.left_out = _view.download(self.left_out, self.stream)
        return peaks


def pinned(B: int, K: int, *, device: int = 0, visibility: bool = False) -> Keypoints:
    """Host memory for `out=` that the kernel writes itself: no copy call, one wait.

    B, K : numbers of people and keypoints. device : CUDA ordinal of the maps to be decoded. visibility : with room for
    `decode_simcc(..., visibility=True)`.

    Returns Keypoints of NumPy arrays, (B, K, 2) and (B, K) float32, over page-locked memory mapped into the device's
    address space, zero at first. `.numpy()` of a call's result waits and gives these very arrays: read them before the
    next call that writes here. Raises ValueError for sizes below 0, and what CuPy raises where there is no CUDA device.
    """
    if min(B, K) < 0:
        raise ValueError(f"B and K must not be negative, got {B} and {K}")
    floats = (4 if visibility else 3) * B * K
    pages = _kernels.cuda.pinned(floats, device)
    address = np.frombuffer(pages, np.float32, floats).ctypes.data
    place: Any = (ctypes.c_float * floats).from_address(address)
    writer = Writer()
    # CuPy gives pages away again as soon as they are dropped, though a stream may still be writing to them
    weakref.finalize(place, _let_go, pages, device, writer).atexit = False
    memory = np.frombuffer(place, np.float32, floats)
    memory[:] = 0
    seen = address + 12 * B * K if visibility else 0
    origin = Origin(device, PINNED, address, address + 8 * B * K, 0, memory, (B, K, 2), seen, writer)
    result = on_device(memory[: 2 * B * K].reshape(B, K, 2), memory[2 * B * K : 3 * B * K].reshape(B, K), origin)
    result.visibility = memory[3 * B * K :].reshape(B, K) if visibility else None
    return result


class Writer:
    """Of pinned memory: the stream that was last told to write it."""

    stream: int | None = None
    holder: Any = None

    def synchronize(self) -> None:
        if self.holder is not None:
            self.holder.synchronize()  # synchronizes


def _let_go(pages: Any, device: int, writer: Writer) -> None:
    if writer.stream is not None:
        _kernels.hold(device, writer.stream, (pages, writer.holder))


def launched(result: Keypoints, queue: _view.Queue) -> Keypoints:
    """The result that `queue` has just been told to write."""
    origin = result.origin
    assert origin is not None
    if isinstance(origin.holder, Writer):
        origin.holder.stream, origin.holder.holder = queue.pointer, _view.written_by(queue, origin.device)
    elif queue.pointer == _kernels.PER_THREAD_STREAM:
        result.origin = origin._replace(holder=_view.written_by(queue, origin.device))
    return result


def _wait_for_thread(stream: int | None, holder: Any) -> None:
    if stream == _kernels.PER_THREAD_STREAM and holder is not None:
        holder.synchronize()  # synchronizes


def on_device(keypoints: _view.Array, scores: _view.Array, origin: Origin) -> Keypoints:
    """Keypoints that a stream may still be writing."""
    result = Keypoints(keypoints, scores)
    result.origin = origin
    return result
