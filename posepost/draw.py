"""Pictures for people to look at: keypoints over a photograph, and one heatmap enlarged. Needs Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from posepost import _check
from posepost._image import as_image, pillow
from posepost.schemes import Scheme, SchemeLike, keypoint_scheme, sides_of, words

if TYPE_CHECKING:
    from PIL import Image as PILImage

Color = tuple[int, int, int]
Canvas = npt.NDArray[np.float32]
LEFT, RIGHT, MIDDLE = (255, 140, 26), (38, 166, 255), (238, 238, 238)
_SIDE_COLORS: dict[str | None, Color] = {"left": LEFT, "right": RIGHT, None: MIDDLE}
PEOPLE = (LEFT, RIGHT, (120, 220, 70), (255, 92, 160), (250, 220, 60), (170, 120, 255), (60, 220, 200))
DARK, LIGHT = (12, 14, 22), (255, 255, 255)
SMALL = {  # dots and lines where keypoints lie close together, by words in their names
    **dict.fromkeys(("face", "hand", "thumb", "finger", "forefinger"), 0.4),
    **dict.fromkeys(("nose", "eye", "ear"), 0.7),
}
HEAT = np.array([(13, 14, 38), (44, 44, 122), (38, 118, 168), (60, 184, 150), (188, 226, 96), (255, 250, 196)], float)


def overlay(
    image: Any,
    keypoints: Any,
    scores: Any,
    *,
    scheme: SchemeLike | None = None,
    min_score: float = 0.3,
    scale: int = 1,
) -> PILImage.Image:
    """Draw limbs and joints over a picture.

    image: PIL image or (H, W, 3) uint8 array; it is not changed.
    keypoints: (N, K, 2) or (K, 2), (x, y) in pixels of the image. scores: (N, K) or (K,).
    min_score: joints below it, and those that are not finite, are left out with their limbs.
    scale: how many times to enlarge the picture first, so that lines on a small one are fine.
    scheme: what the K keypoints are, as `posepost.keypoint_scheme` takes it ("coco", names, a file): its limbs are
        drawn. None: joints alone.
    One person: left side orange, right side blue, where the scheme tells them. Several: one color each. Joints of faces
    and hands are small beside those of a body.
    """
    points = _check.numbers(keypoints, "keypoints", "numbers of shape (N, K, 2) or (K, 2)").astype(np.float64)
    confidence = _check.numbers(scores, "scores", "numbers of shape (N, K) or (K,)").astype(np.float64)
    _check.number(min_score, "min_score")
    _check.count(scale, "scale")
    given = points.shape
    if points.ndim == 2:
        points, confidence = points[None], confidence[None]
    if points.ndim != 3 or points.shape[2] != 2:
        raise ValueError(f"keypoints must have shape (N, K, 2) or (K, 2), got {given}")
    if confidence.shape != points.shape[:2]:
        raise ValueError(f"scores must have shape {points.shape[:2]} to fit keypoints, got {confidence.shape}")
    known = None if scheme is None else keypoint_scheme(scheme)
    if known is not None and len(known.keypoints) != points.shape[1]:
        raise ValueError(
            f"scheme must have as many keypoints as keypoints has, {points.shape[1]}, got {len(known.keypoints)}"
        )
    picture = as_image(image)
    if scale != 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), pillow().Resampling.BICUBIC)
        points = (points + 0.5) * scale - 0.5
    canvas = np.asarray(picture).astype(np.float32)
    for person, (joints, shown) in enumerate(zip(points, (confidence >= min_score) & np.isfinite(points).all(axis=2))):
        if shown.any():
            _draw_person(canvas, joints, shown, known, None if len(points) == 1 else PEOPLE[person % len(PEOPLE)])
    return _to_image(canvas)


def heatmap_picture(heatmap: Any, point: Sequence[float] | None = None) -> PILImage.Image:
    """One heatmap, enlarged to about 640 pixels, cell by cell from dark (least) to light (most), its peak ringed.

    heatmap: (H, W), logits or scores; values that are not finite are drawn as the least.
    point: (x, y) in cells, whole numbers at cell centers, to be ringed; default: the first largest value.
    """
    values = _check.numbers(heatmap, "heatmap", "numbers of shape (H, W)").astype(np.float64)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"heatmap must have shape (H, W), got {values.shape}")
    rows, columns = values.shape
    scale = max(1, 640 // max(rows, columns))
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    level = np.where(finite, (values - low) / ((high - low) or 1.0), 0.0)
    stops = np.linspace(0.0, 1.0, len(HEAT))
    cells = np.stack([np.interp(level, stops, HEAT[:, channel]) for channel in range(3)], axis=-1)
    canvas = cells.repeat(scale, axis=0).repeat(scale, axis=1).astype(np.float32)
    if scale >= 8:
        canvas[::scale] *= 0.86
        canvas[:, ::scale] *= 0.86
    if point is None:
        row, column = divmod(int(np.argmax(values)), columns)
        point = (column, row)
    place = _check.numbers(point, "point", "numbers (x, y)").astype(np.float64)
    if place.shape != (2,):
        raise ValueError(f"point must have shape (2,), got {place.shape}")
    if np.isfinite(place).all():
        center = (place + 0.5) * scale - 0.5
        radius = max(8.0, 0.75 * scale)
        for width, color, alpha in ((5.0, DARK, 0.75), (2.5, LIGHT, 1.0)):
            y, x = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
            from_ring = np.abs(np.hypot(x - center[0], y - center[1]) - radius)
            _blend(canvas, alpha * np.clip((width + 1) / 2 - from_ring, 0.0, 1.0), color)
    return _to_image(canvas)


def _draw_person(
    canvas: Canvas,
    joints: npt.NDArray[np.float64],
    shown: npt.NDArray[np.bool_],
    scheme: Scheme | None,
    color: Color | None,
) -> None:
    height, width = canvas.shape[:2]
    extent = float(np.linalg.norm(np.ptp(joints[shown], axis=0)))
    radius = max(1.25, min(0.011 * extent, 0.0045 * float(np.hypot(width, height))))
    limbs = [limb for limb in (scheme.limbs if scheme else ()) if shown[limb[0]] and shown[limb[1]]]
    sides = [_SIDE_COLORS[side] for side in sides_of(scheme.keypoints)] if scheme else [MIDDLE] * len(joints)
    sizes = _sizes(scheme.keypoints) if scheme else [1.0] * len(joints)
    dots = [k for k in range(len(joints)) if shown[k]]

    def thickness(k: int) -> float:
        return radius * sizes[k]

    casing = np.zeros((height, width), np.float32)
    outlines = [(a, b, thickness(b)) for a, b in limbs] + [(k, k, 1.9 * thickness(k)) for k in dots]
    for a, b, size in outlines:
        window, coverage = _line(casing.shape, joints[a], joints[b], size + 0.5 * radius + 0.5)
        casing[window] = np.maximum(casing[window], coverage)
    _blend(canvas, 0.6 * casing, DARK)
    for a, b in limbs:
        tone = color or (sides[a] if sides[a] == sides[b] else MIDDLE)
        _paint(canvas, joints[a], joints[b], thickness(b), tone)
    for k in dots:
        _paint(canvas, joints[k], joints[k], 1.9 * thickness(k), LIGHT)
        _paint(canvas, joints[k], joints[k], 1.25 * thickness(k), color or sides[k])


def _sizes(names: Sequence[str]) -> list[float]:
    """Of the dots and lines of each keypoint, the largest 1."""
    sizes = [min((SMALL.get(word, 1.0) for word in words(name)), default=1.0) for name in names]
    return [size / max(sizes) for size in sizes]


def _line(
    shape: Sequence[int], a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], radius: float
) -> tuple[tuple[slice, slice], npt.NDArray[np.float64]]:
    """A line with round ends: the part of the picture it can touch, and how much of each pixel there it covers."""
    limits = np.array([shape[1], shape[0]])
    low, high = np.floor(np.minimum(a, b) - radius - 1), np.ceil(np.maximum(a, b) + radius + 2)
    (x0, y0), (x1, y1) = np.clip(low, 0, limits).astype(int), np.clip(high, 0, limits).astype(int)
    window = slice(y0, y1), slice(x0, x1)
    y, x = np.ogrid[window]
    from_x, from_y = x - a[0], y - a[1]
    along, squared = b - a, float(np.dot(b - a, b - a))
    t = np.clip(from_x * (along[0] / (squared or 1.0)) + from_y * (along[1] / (squared or 1.0)), 0.0, 1.0)
    distance = np.sqrt((from_x - t * along[0]) ** 2 + (from_y - t * along[1]) ** 2)
    return window, np.clip(radius + 0.5 - distance, 0.0, 1.0)


def _paint(canvas: Canvas, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], radius: float, color: Color) -> None:
    window, coverage = _line(canvas.shape, a, b, radius)
    _blend(canvas[window], coverage, color)


def _blend(canvas: Canvas, coverage: npt.NDArray[Any], color: Color) -> None:
    touched = coverage > 0
    canvas[touched] += coverage[touched][:, None].astype(np.float32) * (np.array(color, np.float32) - canvas[touched])


def _to_image(canvas: Canvas) -> PILImage.Image:
    picture: PILImage.Image = pillow().fromarray(np.clip(canvas + 0.5, 0, 255).astype(np.uint8))
    return picture
