"""Whether an input's size and the maps of a network fit each other: its cells are squares, and whole ones."""

from __future__ import annotations

import math

STRIDES = (2, 4, 8, 16, 32)
"""Of networks: pixels of the input a cell."""

Size = tuple[float, float]


def check(size: Size, shape: tuple[int, ...], W: int, H: int, layout: str, scaling: str, scaling_said: bool) -> None:
    """`input_size` (w, h) against maps of W x H cells, read as `layout` from `shape`.

    scaling_said: whether the call itself gave `scaling`.

    Cells of the stride of a network pass, and squares of any other size (points may be wanted in pixels of a crop). A
    size that the stride does not divide is in doubt: its maps are rounded up or down, and a cell is no w / W pixels.
    (1, 1) gives points relative to the input.
    """
    w, h = size
    if size == (1, 1) or _is_whole(size, W, H, scaling):
        return
    stride = undivided(size, W, H, scaling)
    if stride is not None and not scaling_said:
        raise ValueError(
            f"input_size must be whole cells: {_cells(size, W, H)}; if the network's stride is {stride}, give what "
            f'they cover, ({W * stride}, {H * stride}), or scaling="{scaling}" for cells as they are, '
            f"got ({w:g}, {h:g})"
        )
    if stride is not None or _fits(size, W, H) or (scaling_said and _nearly_square(size, W, H)):
        return
    if _fits((h, w), W, H):
        raise ValueError(
            f"input_size must be (w, h): {_cells(size, W, H)}; swapped they are square, got ({w:g}, {h:g})"
        )
    other = {"NCHW": "NHWC", "NHWC": "NCHW"}.get(layout)
    if other is not None:
        rows, columns = shape[-3:-1] if other == "NHWC" else shape[-2:]
        if _fits(size, columns, rows):
            raise ValueError(
                f'layout must be that of heatmaps {shape}: as "{layout}" {_cells(size, W, H)}, as "{other}" they are '
                f'square, got "{layout}"'
            )
    raise ValueError(
        f"input_size must have square cells: {_cells(size, W, H)}; without it points are in cells, and transform= "
        f"scales each axis by itself, got ({w:g}, {h:g})"
    )


def undivided(size: Size, W: int, H: int, scaling: str) -> int | None:
    """The stride of a network that makes such maps of an input that it does not divide; None: there is none."""
    if _is_whole(size, W, H, scaling):
        return None
    return next((s for s in STRIDES if _rounded(size[0], W, s) and _rounded(size[1], H, s)), None)


def _is_whole(size: Size, W: int, H: int, scaling: str) -> bool:
    """Cells side by side; or, for "udp", the first and the last cell on the first and the last pixel as well."""
    corners = scaling == "udp" and any(size == ((W - 1) * s + 1, (H - 1) * s + 1) for s in STRIDES)
    return corners or any(size == (W * s, H * s) for s in STRIDES)


def _cells(size: Size, W: int, H: int) -> str:
    w, h = size
    return f"({w:g}, {h:g}) has cells of {w / W:.3g} x {h / H:.3g} pixels on maps {W} wide and {H} high"


def _rounded(pixels: float, cells: int, stride: int) -> bool:
    return cells in (math.floor(pixels / stride), math.ceil(pixels / stride))


def _fits(size: Size, W: int, H: int) -> bool:
    """Square cells, of any size."""
    return size[0] * H == size[1] * W


def _nearly_square(size: Size, W: int, H: int) -> bool:
    """Rounded maps of square cells are within a cell of what they should be, along each axis."""
    w, h = size
    largest = min(w / (W - 1) if W > 1 else math.inf, h / (H - 1) if H > 1 else math.inf)
    return max(w / (W + 1), h / (H + 1)) < largest
