"""What the decoders return."""

from __future__ import annotations

from typing import NamedTuple

from . import _view


class Origin(NamedTuple):
    """Where a result on a device was written, and by whom."""

    device: int
    library: str
    keypoints: int  # address
    scores: int  # address
    stream: int
    memory: _view.Array | None  # both arrays in a row, where one allocation holds them


class _Keypoints(NamedTuple):
    keypoints: _view.Array
    scores: _view.Array


class Keypoints(_Keypoints):
    """One person a row: N people with K keypoints each.

    keypoints : (N, K, 2) float32
        (x, y), x to the right, y down, in pixels of the network's input unless a `transform` maps them further.
    scores : (N, K) float32
        Confidence of each keypoint.

    Unpacks as a tuple. The arrays live where the decoder's input lived, in the input's library; on a device the stream
    of the call may still be writing them, which `.numpy()` waits for.
    """

    origin: Origin | None = None
    """For results on a device; None on the host and for arrays put together by hand."""

    def numpy(self) -> Keypoints:
        """The same keypoints as NumPy arrays, in one copy where they lie in a row. The one method that waits."""
        stream = self.origin.stream if self.origin else None
        if self.origin is None or self.origin.memory is None:
            return Keypoints(_view.download(self.keypoints, stream), _view.download(self.scores, stream))
        flat = _view.download(self.origin.memory, stream)
        points = 2 * flat.size // 3
        return Keypoints(flat[:points].reshape(self.keypoints.shape), flat[points:].reshape(self.scores.shape))


def on_device(keypoints: _view.Array, scores: _view.Array, origin: Origin) -> Keypoints:
    """Keypoints that a stream may still be writing."""
    result = Keypoints(keypoints, scores)
    result.origin = origin
    return result
