"""What the decoders return."""

from __future__ import annotations

from typing import NamedTuple

from . import _view


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

    _device_result: tuple[_view.Array, int] | None = None

    def numpy(self) -> Keypoints:
        """The same keypoints as NumPy arrays. The one method that waits; arrays of one call come down in one copy."""
        if self._device_result is None:
            return Keypoints(_view.download(self.keypoints, None), _view.download(self.scores, None))
        memory, stream = self._device_result
        if memory is None:
            return Keypoints(_view.download(self.keypoints, stream), _view.download(self.scores, stream))
        flat = _view.download(memory, stream)
        points = 2 * flat.size // 3
        return Keypoints(flat[:points].reshape(self.keypoints.shape), flat[points:].reshape(self.scores.shape))


def on_device(keypoints: _view.Array, scores: _view.Array, memory: _view.Array | None, stream: int) -> Keypoints:
    """Keypoints still being written by `stream`; `memory` holds both arrays in a row where one allocation made them."""
    result = Keypoints(keypoints, scores)
    result._device_result = (memory, stream)
    return result
