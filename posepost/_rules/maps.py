"""How maps lie: batch, channels, rows and columns of any layout, and which of them belong together."""

from __future__ import annotations

from typing import NamedTuple

from .. import _check
from .._view import Spec

Strides = tuple[int, int, int, int]
"""Of B, K, H, W, in elements."""

LARGEST_SIDE = 2**24
"""From here on float32 does not hold every cell's number."""


class Maps(NamedTuple):
    """Heatmaps (B, K, H, W), and offsets (B, 2K, H, W) where there are any, with strides in that order of axes."""

    layout: str  # "NCHW" or "NHWC", as given or found
    B: int
    K: int
    H: int
    W: int
    heatmap_strides: Strides
    offset_strides: Strides = (0, 0, 0, 0)


def some_cells(spec: Spec, name: str = "heatmaps") -> None:
    if 0 in spec.shape[-3:]:
        raise ValueError(f"{name} must have at least one channel, row and column, got shape {spec.shape}")


def channels_first(spec: Spec, layout: str) -> tuple[tuple[int, int, int, int], Strides]:
    """Shape and strides in the order B, K, H, W."""
    shape, strides = spec.shape, spec.strides
    if len(shape) == 3:
        shape, strides = (1, *shape), (0, *strides)
    b, k, y, x = (0, 1, 2, 3) if layout == "NCHW" else (0, 3, 1, 2)
    return (shape[b], shape[k], shape[y], shape[x]), (strides[b], strides[k], strides[y], strides[x])


def posenet_pair(heatmaps: Spec, offsets: Spec, layout: str | None) -> Maps:
    """The layout of a PoseNet pair, given or found: offsets have twice the channels of heatmaps."""
    _check.same_device(heatmaps, offsets, "offsets", "heatmaps")
    _check.elements(heatmaps, "heatmaps", (3, 4))
    _check.elements(offsets, "offsets", (3, 4))
    h, o = heatmaps.shape, offsets.shape
    if len(h) != len(o):
        raise ValueError(f"offsets must have as many dimensions as heatmaps, got shapes {o} and {h}")
    some_cells(heatmaps)
    if layout is None:
        layout = _find_layout(h, o)
    channel = len(h) - (3 if layout == "NCHW" else 1)
    if h[:channel] + h[channel + 1 :] != o[:channel] + o[channel + 1 :]:
        raise ValueError(
            f"offsets must match heatmaps in all axes but the channels of {layout}, got shapes {o} and {h}"
        )
    if o[channel] != 2 * h[channel]:
        raise ValueError(f"offsets must have twice the channels of heatmaps, got {o[channel]} and {h[channel]}")
    (B, K, H, W), heatmap_strides = channels_first(heatmaps, layout)
    _, offset_strides = channels_first(offsets, layout)
    if H * W >= 2**32:
        raise ValueError(f"heatmaps must have fewer than 2**32 cells a map, got {H} x {W}")
    return Maps(layout, B, K, H, W, heatmap_strides, offset_strides)


def _find_layout(h: tuple[int, ...], o: tuple[int, ...]) -> str:
    planar, interleaved = h[-2:] == o[-2:], h[-3:-1] == o[-3:-1]
    if planar and interleaved:  # the same shape twice: no axis is doubled
        raise ValueError(f"offsets must have twice the channels of heatmaps, got the shape {o} for both")
    if planar or interleaved:
        return "NCHW" if planar else "NHWC"
    raise ValueError(f"offsets must match heatmaps in all axes but the channels, got shapes {o} and {h}")
