"""What a network is fed: pixels made the numbers that it expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from posepost._image import pillow

from ._graph import Graph, Image, find_image
from ._nodes import arithmetic_on_pixels, input_scale, through_arithmetic

ORDERS = ("RGB", "BGR")
GRAY = "gray"
GRAY_MEAN, GRAY_STD = 117.038, 57.53
"""ImageNet's mean and std of R, G and B, weighed as Pillow's "L" weighs them: 0.299, 0.587, 0.114."""
MOST_LEVELS = 2  # pixel values that an integer input may make one
LEAST_SPAN, LARGEST = 0.5, 2.8  # of what a first layer sees of pixels normalized once: -1..1, ImageNet's -2.2..2.7
BEYOND = 26  # levels, a tenth of 256: quantizing cuts off what it seldom saw


class Feed(NamedTuple):
    """How pixels become the image input: (pixel - mean) / std in float32, rounded for integers."""

    dtype: str
    channels: str  # "RGB", "BGR" or "gray": what the network expects, in its order
    mean: npt.NDArray[np.float32]  # of each channel, in that order
    std: npt.NDArray[np.float32]
    by: str  # where mean and std come from: "given", "metadata" or "default", with a doubt behind
    scale: tuple[float, int] | None  # with which integers stand for (pixel - mean) / std: x / scale + zero
    doubt: str = ""  # why the default of mean and std is not taken, in words

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """(H, W, 3) RGB pixels as (H, W, channels) values of the network's dtype."""
        if self.channels == GRAY:
            pixels = np.asarray(pillow().fromarray(np.ascontiguousarray(pixels)).convert("L"))[:, :, None]
        elif self.channels == "BGR":
            pixels = pixels[:, :, ::-1]
        dtype = np.dtype(self.dtype)
        values = self._normalized(pixels)
        if dtype.kind == "f":
            real: npt.NDArray[Any] = values.astype(dtype)
            return real
        if self.scale is not None:
            values = self._quantized(values)
        low, high = _limits(dtype)
        whole: npt.NDArray[Any] = np.clip(np.rint(values), low, high).astype(dtype)
        return whole

    def ends(self) -> npt.NDArray[np.float32]:
        """(2, channels): what pixels of 0 and 255 become, before they are cut to the range of an integer."""
        whole: npt.NDArray[np.float32] = np.rint(self._quantized(self.ends_of_reals()))
        return whole

    def ends_of_reals(self) -> npt.NDArray[np.float32]:
        """(2, channels): what pixels of 0 and 255 become as real numbers."""
        return self._normalized(np.array([[0], [255]], np.float32))

    def _normalized(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        values: npt.NDArray[np.float32] = (pixels - self.mean) / self.std
        return values

    def _quantized(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        scale, zero = self.scale or (1.0, 0)
        return values / np.float32(scale) + np.float32(zero)

    def fills_8_bits(self) -> bool:
        """Whether quantized pixels have the levels of 8 bits to themselves, otherwise than pixels themselves have."""
        low, high = _limits(np.dtype(self.dtype))
        ends = self.ends()
        inside = bool(low - BEYOND <= ends.min() and ends.max() <= high + BEYOND)
        enough = bool(ends.max() - ends.min() >= 256 - 2 * BEYOND) and high - low == 255
        return inside and enough and bool(np.abs(ends - [[low], [high]]).max() > 1)

    def in_steps(self) -> str:
        """What follows (pixel - mean) / std where the input is quantized."""
        if self.scale is None:
            return ""
        scale, zero = self.scale
        return f" / {_number(scale)} {'-' if zero < 0 else '+'} {abs(zero)}"

    def __str__(self) -> str:
        """As `posepost inspect` prints it."""
        text = f"(pixel - {numbers(self.mean)}) / {numbers(self.std)}"
        text += self.in_steps()
        whole = np.dtype(self.dtype).kind == "f" or (not (self.mean % 1).any() and (self.std == 1).all())
        rounded = "" if whole and self.scale is None else ", rounded"
        return f"{text}{rounded}, {self.channels} ({self.by})"


def read_feed(
    graph: Graph,
    mean: tuple[Any, Any],
    std: tuple[Any, Any],
    input_channels: str | None,
) -> Feed:
    """What the image input is fed. mean, std: as given, and the default of a network of real numbers.

    An integer input gets the pixels as they are, one of int8 less 128, where neither the caller nor the metadata gives
    mean or std. Where they do, they are those of the real numbers that the first operator, a DequantizeLinear, makes of
    the input; without such an operator (pixel - mean) / std is rounded and must fit the dtype. The default of real
    numbers is taken where that operator's scale is made for it: where it fills the 8 bits, to a tenth.
    """
    image = find_image(graph)
    dtype = graph.inputs[image.name].dtype
    order = _order(graph, image, input_channels)
    stated = {what: graph.metadata.get(f"posepost.{what}") for what in ("mean", "std")}
    given = {"mean": mean[0], "std": std[0]}
    by = "default" if not any(stated.values()) else "metadata"
    by = by if all(value is None for value in given.values()) else "given"
    integer = np.dtype(dtype).kind != "f"
    arithmetic = arithmetic_on_pixels(graph, image.name)
    begins = f"the graph itself begins with {' and '.join(dict.fromkeys(node.op_type for node in arithmetic))}"
    own = by == "default" and not integer and bool(arithmetic)
    if own:
        by = f"default, but {begins} of the pixels"
    scale = input_scale(graph, image.name) if integer else None

    def feed_by(defaults: Mapping[str, Any], scale: tuple[float, int] | None) -> Feed:
        found = {}
        for what, default in defaults.items():
            default = _of_channels(default, what, order)
            found[what] = channels_of(graph.name, what, given[what], stated[what], default, image)
        _check_range_of_pixels(graph.name, given, stated, found)
        return Feed(dtype, order, found["mean"], found["std"], by, scale)

    feed = feed_by({"mean": mean[1], "std": std[1]}, scale)
    if integer and (scale is None or (by == "default" and not feed.fills_8_bits())):
        feed = feed_by({"mean": 128 if dtype == "int8" else 0, "std": 1}, None)
    if integer and by != "default":
        _check_integers(graph.name, image.name, feed)
    ends = through_arithmetic(graph, arithmetic, feed.ends_of_reals()) if own else None
    if ends is None or (np.ptp(ends) >= LEAST_SPAN and np.abs(ends).max() <= LARGEST):
        return feed
    return feed._replace(
        doubt=f"{graph.name}: mean= and std= must be given, because {begins}, which makes {ends.min():.3g} to "
        f"{ends.max():.3g} of the default, {numbers(feed.mean)} and {numbers(feed.std)}: mean=0 and std=1 are for "
        "pixels from 0 to 255, mean=0 and std=255 for 0 to 1"
    )


def channels_of(
    name: str, what: str, given: Any, metadata: str | None, default: Any, image: Image
) -> npt.NDArray[np.float32]:
    """A mean or std of each channel: as given, else of the metadata of the model `name`, else the default."""
    value, where = given, what
    if given is None and metadata is not None:
        value, where = _listed(metadata), f"{name}: posepost.{what}"
    try:
        with np.errstate(over="ignore"):
            found = np.asarray(default if value is None else value, np.float32).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        found = np.empty(0, np.float32)
    if found.size not in (1, 3) or not np.isfinite(found).all():
        raise ValueError(f"{where} must be one finite number or three, got {value!r}")
    if what == "std" and not (found > 0).all():
        raise ValueError(f"{where} must be above 0, got {value}")
    if image.channels == 1:
        if (found != found[0]).any():
            raise ValueError(f"{where} must be one number for the gray input {image.name}, got {value}")
        found = found[:1]
    return np.broadcast_to(found, (image.channels,)).copy()


def _listed(text: str) -> list[float] | str:
    """The numbers of an entry of the metadata; the text itself where it has others."""
    try:
        return [float(part) for part in text.strip("[]() ").split(",")]
    except ValueError:
        return text


def _of_channels(default: Any, what: str, order: str) -> Any:
    """A default of R, G and B for the channels of the network."""
    if np.ndim(default) == 0:
        return default
    if order == GRAY:
        return GRAY_MEAN if what == "mean" else GRAY_STD
    return default[::-1] if order == "BGR" else default


def _order(graph: Graph, image: Image, given: str | None) -> str:
    where = "input_channels" if given is not None else f"{graph.name}: posepost.channels"
    value = given if given is not None else graph.metadata.get("posepost.channels")
    if value is None:
        return "RGB" if image.channels == 3 else GRAY
    if value not in ORDERS:
        raise ValueError(f'{where} must be "RGB" or "BGR", got {value!r}')
    if image.channels == 1:
        raise ValueError(f"{where} must not be given for the gray input {image.name}, got {value!r}")
    return value


def _check_range_of_pixels(
    name: str, given: Mapping[str, Any], stated: Mapping[str, Any], found: Mapping[str, npt.NDArray[np.float32]]
) -> None:
    """No mean and no std of pixels in 0..1: a mean of 0 and a std of 1 or more say that they are of pixels 0..255."""
    small = {
        "mean": bool((np.abs(found["mean"]) <= 1).all() and found["mean"].any()),
        "std": bool((np.abs(found["std"]) < 1).all()),
    }
    wrong = [what for what, is_small in small.items() if is_small and (given[what] is not None or stated[what])]
    if not wrong:
        return
    ours = all(given[what] is None for what in wrong)
    names = " and ".join(f"posepost.{what}" if ours else what for what in wrong)
    right = " and ".join(_joined([f"{255 * float(_number(value)):g}" for value in found[what]]) for what in wrong)
    verb = "are" if len(wrong) > 1 else "is"
    whose = "the model's" if ours else "yours"
    raise ValueError(
        f"{f'{name}: ' * ours}{names} must be in pixel values 0..255: {right} {verb} {whose} "
        f"times 255, got {' and '.join(numbers(found[what]) for what in wrong)}"
    )


def _check_integers(name: str, image: str, feed: Feed) -> None:
    """Rounded values must tell pixels apart and fit the dtype."""
    low, high = _limits(np.dtype(feed.dtype))
    scale, _ = feed.scale or (1.0, 0)
    through = feed.in_steps()
    what = f"the {feed.dtype} input {image}, which gets (pixel - mean) / std{through} rounded to whole numbers"
    got = f"got mean {numbers(feed.mean)} and std {numbers(feed.std)}"
    if (np.abs(feed.std) * scale > MOST_LEVELS).any():
        raise ValueError(f"{name}: std must be at most {MOST_LEVELS} for {what}, {got}")
    ends = feed.ends()
    beyond = BEYOND if feed.scale is not None else 0
    if ends.min() < low - beyond or ends.max() > high + beyond:
        raise ValueError(
            f"{name}: mean and std must keep {what}, in {low}..{high}, {got}: {ends.min():.0f}..{ends.max():.0f}"
        )


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return max(int(info.min), -(1 << 24)), min(int(info.max), 1 << 24)  # whole numbers of float32


def numbers(values: npt.NDArray[np.float32]) -> str:
    """One number where all are the same."""
    return _joined([_number(value) for value in values])


def _joined(texts: list[str]) -> str:
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"


def _number(value: float) -> str:
    """The shortest decimal that is this float32."""
    return str(np.float32(value)).removesuffix(".0")
