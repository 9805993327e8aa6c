"""Where between the cells a keypoint lies: the refinements that heatmaps and peaks share, as values.

`refine="dark"` is `refine=Dark()`, and so on: the string is the class's `kind`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, ClassVar

import numpy as np

from .. import _check

GUARDS = ("mmpose", "hrnet", "higherhrnet")
BORDERS = ("zero", "reflect", "reflect_101")
STEPS = ("none", "quarter", "dark", "dark_udp", "centroid", "soft_argmax")
"""What kernels and NumPy compute from the cells around a maximum: `enum Refine` of kernels/refine.cuh."""
STEP_GUARDS = (*GUARDS, "megvii")
"""Of the quarter step there, "megvii" on the blurred map."""
MAX_WINDOW = 31
MAX_BLUR = {"dark": 27, "dark_udp": 29, "udp_combined": 17, "megvii": 35}
"""Largest blur. Of "dark" and "dark_udp" with the cells that the step sees at most the lanes of a warp; udp_combined
blurs with 2 * blur + 1 cells."""


class Refinement:
    """Base of all refinements."""

    kind: ClassVar[str]


@dataclasses.dataclass(frozen=True)
class NoRefinement(Refinement):
    kind = "none"


@dataclasses.dataclass(frozen=True)
class Quarter(Refinement):
    """A quarter of a cell towards the larger neighbor, along each axis.

    guard : "mmpose", "hrnet" or "higherhrnet"
        Where it acts near borders. "mmpose": x where 1 < x < W - 1 and 0 < y, y where 1 < y < H - 1 and 0 < x; "hrnet":
        both where 1 < x < W - 1 and 1 < y < H - 1; "higherhrnet": everywhere, neighbors clamped, a tie counts as -0.25.

    >>> import posepost
    >>> posepost.Quarter(guard="hrnet")
    Quarter(guard='hrnet')
    """

    guard: str = "mmpose"
    kind = "quarter"

    def __post_init__(self) -> None:
        _check.choice(self.guard, "guard", GUARDS)


@dataclasses.dataclass(frozen=True)
class _Blur(Refinement):
    blur: int = 11
    blur_sigma: float | None = None

    def __post_init__(self) -> None:
        _check.odd(self.blur, "blur", MAX_BLUR[self.kind])
        if self.blur_sigma is not None:
            _check.positive(self.blur_sigma, "blur_sigma")

    @property
    def taps(self) -> tuple[float, ...]:
        return gaussian_taps(int(self.blur), None if self.blur_sigma is None else float(self.blur_sigma))


@dataclasses.dataclass(frozen=True)
class _BorderedBlur(_Blur):
    border: str = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.choice(self.border, "border", BORDERS)


@dataclasses.dataclass(frozen=True)
class Dark(_BorderedBlur):
    """Distribution-aware decoding: Newton's step on the logarithm of the blurred map, clipped from below to 1e-10,
    where 1 < x < W - 2 and 1 < y < H - 2. No step is taken where the Hessian is singular, nor one of W cells or more
    along x or H or more along y. In flat surroundings a step is rounding divided by rounding: see docs/numerics.md.

    blur : int
        Side of the Gaussian, odd, up to 27: the kernel with which the network was trained.
    blur_sigma : float
        Of that Gaussian, in cells; None: OpenCV's for its size.
    border : "zero", "reflect" or "reflect_101"
        What lies outside the map: nothing; c b a | a b c; c b | a b c. With "zero" the blurred map is scaled to the old
        maximum, as MMPose does.

    Source: Zhang et al., arXiv:1910.06278.

    >>> import posepost
    >>> posepost.Dark(blur=17)
    Dark(blur=17, blur_sigma=None, border='zero')
    """

    kind = "dark"


@dataclasses.dataclass(frozen=True)
class DarkUDP(_BorderedBlur):
    """DARK of unbiased data processing: differences over one cell, the blurred map clipped to 1e-3 ... 50, everywhere.

    Ill-conditioned where the blurred map hardly changes or is clipped, as on plateaus and saturated scores: a step is
    then rounding divided by rounding, and differs between kernel, NumPy and MMPose by any number of cells. No step is
    taken where the Hessian is singular, nor one of W cells or more along x or H or more along y: the keypoint stays in
    its cell.

    blur (odd, up to 29), blur_sigma, border : as of `Dark`.

    Source: Huang et al., arXiv:1911.07524.

    >>> import posepost
    >>> posepost.DarkUDP(blur=11, blur_sigma=0.8, border="reflect").blur_sigma
    0.8
    """

    kind = "dark_udp"


@dataclasses.dataclass(frozen=True)
class UDPCombined(_Blur):
    """Cell and score from the blurred class map, offsets * 0.0546875 * max(W, H) cells: heatmaps of 3K channels.

    blur : int
        Odd, up to 17. The blur has 2 * blur + 1 cells, as MMPose does it; its border is "reflect_101".
    blur_sigma : float
        Of that Gaussian, in cells; None: OpenCV's for its size.

    >>> import posepost
    >>> posepost.UDPCombined().blur
    11
    """

    kind = "udp_combined"

    @property
    def taps(self) -> tuple[float, ...]:
        return gaussian_taps(2 * int(self.blur) + 1, None if self.blur_sigma is None else float(self.blur_sigma))


@dataclasses.dataclass(frozen=True)
class Megvii(_Blur):
    """Cell and quarter step (with 0.5 more, inside the guard of "hrnet") from the blurred map; score / 255 + 0.5.

    blur (odd, up to 35), blur_sigma : as of `Dark`. The border is "zero".

    >>> import posepost
    >>> posepost.Megvii(blur=9)
    Megvii(blur=9, blur_sigma=None)
    """

    kind = "megvii"


@dataclasses.dataclass(frozen=True)
class Centroid(Refinement):
    """Mean of the cells in a window around the maximum, weighted by their values. A sum of 0 gives what the division
    gives.

    window : int
        Side of the square, odd, up to 31.
    border : "zero", "reflect" or "reflect_101"
        What weight cells outside the map have: none, or that of the mirrored cell.
    positive : bool
        Only values above 0 have weight.

    >>> import posepost
    >>> posepost.Centroid(window=7, positive=True)
    Centroid(window=7, border='zero', positive=True)
    """

    window: int = 5
    border: str = "zero"
    positive: bool = False
    kind = "centroid"

    def __post_init__(self) -> None:
        _check.odd(self.window, "window", MAX_WINDOW)
        _check.choice(self.border, "border", BORDERS)
        _check.flag(self.positive, "positive")


@dataclasses.dataclass(frozen=True)
class SoftArgmax(Refinement):
    """Mean cell under softmax(value / temperature). NaN, +inf, or -inf alone give NaN.

    window : int
        Side of the square around the maximum, odd, up to 31; None: the whole map.
    temperature : float
        Weights are exp(value / temperature), as kornia has it; 1 / MMPose's beta.
    debias : bool
        Of the whole map: MMPose's correction for the mass of an exponential that no map can avoid.

    >>> import posepost
    >>> posepost.SoftArgmax(temperature=0.1)
    SoftArgmax(window=None, temperature=0.1, debias=False)
    """

    window: int | None = None
    temperature: float = 1.0
    debias: bool = False
    kind = "soft_argmax"

    def __post_init__(self) -> None:
        if self.window is not None:
            _check.odd(self.window, "window", MAX_WINDOW)
        _check.positive(self.temperature, "temperature")
        _check.flag(self.debias, "debias")
        if self.debias and self.window is not None:
            raise ValueError(f"debias must be False with a window, got window={self.window}")


@dataclasses.dataclass(frozen=True)
class Offset(Refinement):
    """The cell plus the offset that a second output of the network has there.

    scale : float
        Pixels of the input that an offset of 1 stands for; needs `input_size`. DeepLabCut: 7.2801. None: 1, and
        without an `input_size` offsets are cells.

    >>> import posepost
    >>> posepost.Offset(scale=7.2801)
    Offset(scale=7.2801)
    """

    scale: float | None = None
    kind = "offset"

    def __post_init__(self) -> None:
        if self.scale is not None:
            _check.finite(self.scale, "scale")


REFINEMENTS: dict[str, type[Refinement]] = {
    one.kind: one for one in (NoRefinement, Quarter, Dark, DarkUDP, UDPCombined, Megvii, Centroid, SoftArgmax, Offset)
}
"""What a string means, with the defaults of each."""


def refinement(value: Any, kinds: tuple[str, ...]) -> Refinement:
    """`refine` of a call as a value of one of `kinds`."""
    if isinstance(value, Refinement):
        if value.kind not in kinds:
            classes = _check.either(REFINEMENTS[kind].__name__ for kind in kinds if kind != "none")
            raise ValueError(f"refine must be {classes}, got {value!r}")
        return value
    _check.choice(value, "refine", kinds)
    return REFINEMENTS[value]()


@dataclasses.dataclass(frozen=True)
class Step:
    """A refinement as kernel and NumPy implementation compute it: all numbers, nothing left open."""

    kind: str = "none"  # one of STEPS
    guard: str = "mmpose"  # of "quarter": one of STEP_GUARDS
    taps: tuple[float, ...] = (1.0,)  # of the blur, one axis
    border: str = "zero"  # of blur or window
    window: int = 0  # side of the square of a centroid or soft-argmax; 0: the whole map
    positive: bool = False  # centroid: only values above 0 have weight
    beta: float = 1.0  # soft-argmax: weights are exp(beta * value)


@functools.lru_cache(maxsize=256)
def step(refine: Refinement) -> Step:
    if isinstance(refine, Quarter):
        return Step("quarter", refine.guard)
    if isinstance(refine, _BorderedBlur):
        return Step(refine.kind, taps=refine.taps, border=refine.border)
    if isinstance(refine, UDPCombined):
        return Step("none", taps=refine.taps, border="reflect_101")
    if isinstance(refine, Megvii):
        return Step("quarter", "megvii", refine.taps)
    if isinstance(refine, Centroid):
        return Step("centroid", border=refine.border, window=int(refine.window), positive=bool(refine.positive))
    if isinstance(refine, SoftArgmax):
        return Step("soft_argmax", window=int(refine.window or 0), beta=1 / float(refine.temperature))
    return Step()


_FIXED_TAPS = {1: (1.0,), 3: (0.25, 0.5, 0.25), 5: (0.0625, 0.25, 0.375, 0.25, 0.0625)}
_FIXED_TAPS[7] = (0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125)
_FIXED_TAPS[9] = tuple(n / 256 for n in (4, 13, 30, 51, 60, 51, 30, 13, 4))


@functools.lru_cache(maxsize=64)
def gaussian_taps(size: int, sigma: float | None = None) -> tuple[float, ...]:
    """Weights of a Gaussian over `size` cells, float32 values. sigma None: OpenCV's for that size (GaussianBlur with
    sigma 0: fixed tables up to 9, else sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8)."""
    if sigma is None and size in _FIXED_TAPS:
        return _FIXED_TAPS[size]
    spread = 0.3 * ((size - 1) * 0.5 - 1) + 0.8 if sigma is None else sigma
    weights = [math.exp(-((i - size // 2) ** 2) / (2 * spread * spread)) for i in range(size)]
    total = sum(weights)
    return tuple(float(np.float32(weight / total)) for weight in weights)
