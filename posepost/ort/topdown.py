"""Models with heatmaps or SimCC, which see a crop of each person."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from posepost import (
    Flip,
    Keypoints,
    Megvii,
    Offset,
    SoftArgmax,
    _check,
    box_to_crop,
    crop_to_image,
    decode_heatmap,
    decode_simcc,
)
from posepost._boxes import read_boxes
from posepost._image import as_image, warp
from posepost._rules import cells
from posepost.schemes import SchemeLike

from ._graph import read_graph
from ._metadata import may_be
from ._models import PRESETS, TopDownModel, input_size, keypoints_in, read_topdown
from ._session import Session, keypoints_rows, shape_of
from ._source import ModelLike
from ._tensors import channel_axis, width_height
from .people import BoxWarning, People, PresetWarning

if TYPE_CHECKING:
    from PIL import Image as PILImage

MOST_CROPS = 64  # that a model of a free batch gets in one run
DEEPLABCUT_SCALE = 7.2801  # locref_stdev, of its default configuration


class TopDownSession(Session):
    """An ONNX model that sees a crop of each person, run by onnxruntime and decoded in place.

    model: as for `PoseSession`, with either heatmaps (N, K, H / s, W / s) or (N, H / s, W / s, K), or SimCC's
        (N, K, r * W) and (N, K, r * H).
    preset: whose rules decode: a preset of `decode_heatmap` or `decode_simcc`. The graph does not tell. Default:
        "mmpose_msra" for heatmaps, "rtmpose" for SimCC, with a PresetWarning. Heatmaps of 3K channels are
        "mmpose_udp_combined" only when that is said here.
    heads: names of outputs, by head ("heatmaps", or "simcc_x" and "simcc_y"), where shapes and names leave a doubt.
        With the preset "deeplabcut" also "offsets", its location refinement (found by its name).
    layout: "NCHW" or "NHWC" of the heatmaps; found from the sizes when not given.
    activation: "auto" takes the preset's, but no second Sigmoid where the graph has one; "sigmoid" says that the
        outputs are logits, None that they are scores.
    mean, std: a number or three, of the network's channels in its order, in pixel values 0..255: the input is
        (pixel - mean) / std, as `describe` prints it. Default: the metadata, else ImageNet's (123.675, 116.28, 103.53)
        and (58.395, 57.12, 57.375) of R, G and B, or 117.038 and 57.53 of gray. For integers as for `PoseSession`. Only
        `crop` uses them.
    input_channels, inputs: as for `PoseSession`.
    keypoints: what the keypoints are, as `posepost.keypoint_scheme` takes it: "coco", "halpe26", a file, names.
        Default: the metadata, else not known: their number does not tell.
    flip_pairs: the keypoint that stands for each one in the mirrored image, for `run(flip=True)`. Default: those of the
        keypoints' scheme, or what their names tell.
    flip_shift: whether mirrored heatmaps are moved by one cell, as in `decode_heatmap`. Default: where a preset counts
        cells from the upper left pixel of each, as HRNet's and MMPose's MSRA and DARK do.
    providers, device_id: as for `PoseSession`.

    `device`, `device_reason`, `stream`, the order of what is enqueued, and errors are as for `PoseSession`. The "cuda"
    branch has not been run on a GPU yet. Threads, copies and pickles are as for `PoseSession`.
    """

    model: TopDownModel

    def __init__(
        self,
        model: ModelLike,
        *,
        preset: str | None = None,
        heads: Mapping[str, str] | None = None,
        layout: str | None = None,
        activation: str | None = "auto",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        input_channels: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        keypoints: SchemeLike | None = None,
        flip_pairs: Sequence[int] | None = None,
        flip_shift: bool | None = None,
        providers: Sequence[Any] | None = None,
        device_id: int = 0,
    ) -> None:
        graph = read_graph(model)
        self.model = read_topdown(
            graph,
            preset=preset,
            heads=heads,
            layout=layout,
            activation=activation,
            mean=mean,
            std=std,
            input_channels=input_channels,
            inputs=inputs,
            keypoints=keypoints,
        )
        if preset is None:
            warnings.warn(
                f"{self.model.name}: no preset given: decoded by the rules of {self.model.preset}, which the graph "
                "does not tell; preset= says whose",
                PresetWarning,
                stacklevel=2,
            )
        rules = PRESETS[self.model.kind][self.model.preset]
        self._given_pairs = None if flip_pairs is None else _check.flip_pairs(flip_pairs)
        if flip_pairs is not None and self.model.keypoint_count is not None:
            self.flip_pairs(self.model.keypoint_count)
        self._scored = not isinstance(rules.get("refine"), SoftArgmax)  # its scores do not say who is absent
        self._udp = rules.get("scaling") == "udp"
        from_middle = self._udp or rules.get("center_shift") or isinstance(rules.get("refine"), Megvii)
        self._options: dict[str, Any] = {**rules, "activation": self.model.activation}
        if self.model.kind == "heatmap":
            self._options["layout"] = self.model.layout
            if "offsets" in self.model.heads:
                self._options["refine"] = Offset(scale=DEEPLABCUT_SCALE)
            self._flip_shift = not from_middle if flip_shift is None else flip_shift
            _check.flag(self._flip_shift, "flip_shift")
        elif flip_shift is not None:
            raise ValueError(f"flip_shift is for heatmaps, got it for the SimCC model {self.model.name}")
        self._start(graph, providers, device_id)

    def __call__(
        self,
        image: Any,
        boxes: Any = None,
        *,
        box_format: str = "xyxy",
        padding: float = 1.25,
        flip: bool = False,
        size: tuple[int, int] | None = None,
        channels: str = "RGB",
    ) -> People:
        """The people in boxes of one picture: reads it, turns it upright, cuts out, runs the model, decodes, waits.

        image, boxes, box_format, padding, size, channels: as for `crop`, but a box that cannot be used is left out with
        a BoxWarning, and said in `left_out`. Without boxes the whole picture is taken as one person, with a BoxWarning.
        flip: as for `run`.
        Raises what `crop` and `run` raise.
        """
        picture = as_image(image, channels=channels)
        if boxes is None:
            _warn("no boxes given: the whole picture is taken as one person; boxes= says where people are")
            boxes, box_format = (0, 0, *picture.size), "xyxy"
        there = read_boxes(boxes, picture.size, box_format=box_format)
        for problem in there.problems:
            _warn(f"{problem}, left out")
        images, transforms = self._cut(picture, there.corners, padding, input_size(self.model, size))
        result = self.run(images, transform=transforms, flip=flip)
        points, scores = result.numpy(absent=np.nan) if self._scored else result.numpy()
        return People(
            points,
            scores,
            scores.mean(axis=1, dtype=np.float64),
            self.keypoint_scheme(points.shape[1]),
            picture,
            there.corners,
            there.scores,
            tuple(there.problems),
        )

    def crop(
        self,
        image: Any,
        boxes: Any = None,
        *,
        padding: float = 1.25,
        size: tuple[int, int] | None = None,
        box_format: str = "xyxy",
        channels: str = "RGB",
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """The network's input for the people in one picture, and the transforms for `run` that give points in pixels of
        the picture.

        image: a path, a PIL image of any mode, turned upright by its EXIF data, or a NumPy array (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4), RGB: uint8, bool, uint16, or floats in 0..1 or 0..255.
        boxes: (N, 4), lists or an array of any library: x0, y0, x1, y1 of each person in pixels of the picture, to the
            aspect ratio of the network's input and `padding` times as large cut out, bilinear, black outside the
            picture. Rows of a detector, (N, 5) or (N, 6), have a score and a class behind them, which are not looked
            at. None: the whole picture is one person.
        size: (width, height) for a model that takes any; default: the metadata, else 192 x 256.
        box_format: "xyxy", "xywh" (upper left corner and size, as COCO's) or "cxcywh" (middle and size).
        channels: "RGB", or "BGR" for arrays as OpenCV reads them.
        Returns (images, transforms): images (N, C, height, width) or (N, height, width, C), normalized, in the model's
        dtype and of its C channels; transforms (N, 2, 3) float32.
        Raises what `letterbox` of PoseSession raises for pictures, and ValueError for boxes that are empty, not finite,
        beside the picture, in parts of it in place of pixels, or that look like xywh and are not said to be: one bad
        box is an error here, so that rows and people agree.
        """
        chosen = input_size(self.model, size)
        picture = as_image(image, channels=channels)
        found = read_boxes((0, 0, *picture.size) if boxes is None else boxes, picture.size, box_format=box_format)
        if found.problems:
            raise ValueError(found.problems[0])
        return self._cut(picture, found.corners, padding, chosen)

    def _cut(
        self, picture: PILImage.Image, corners: npt.NDArray[Any], padding: float, size: tuple[int, int]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """`crop` of an upright RGB picture and of boxes that can be used."""
        width, height = size
        centers, scales = box_to_crop(corners, (width, height), padding=padding)
        cuts = crop_to_image(centers, scales, (width, height), udp=self._udp)
        C = len(self.model.mean)
        shape = (C, height, width) if self.model.input_layout == "NCHW" else (height, width, C)
        images = np.empty((len(cuts), *shape), self.model.feed.dtype)
        for row, matrix in zip(images, cuts):
            row[...] = self._fed(warp(picture, matrix, (width, height)))
        return images, crop_to_image(centers, scales, (width, height)) if self._udp else cuts

    def flip_pairs(self, count: int) -> tuple[int, ...]:
        """The partner of each of the model's `count` keypoints in the mirrored image: as given, or those of
        their scheme."""
        scheme = self.model.scheme
        pairs = self._given_pairs or (scheme and scheme.flip_pairs)
        if not pairs:
            why = (
                f"the names of the {count} keypoints of {self.model.name} are not known ({may_be(count)})"
                if scheme is None
                else f"the names of the {count} keypoints of {self.model.name} do not tell"
            )
            raise ValueError(
                "flip_pairs must be given for a flip test, or keypoints= with names that tell left from right, because "
                f"{why}, got None"
            )
        if len(pairs) != count:
            raise ValueError(f"flip_pairs must name the partner of each of {count} keypoints, got {len(pairs)}")
        return pairs

    def forward(self, images: Any) -> tuple[Any, ...]:
        """Run the model alone: heatmaps, or SimCC's two, NumPy arrays on the CPU, onnxruntime OrtValues on the device.

        images: as for `run`, and as many as the model takes at once. On "cuda" nothing waits; the result is ordered as
        that of `run` is.
        """
        return self._forward(images, tuple(self.model.heads))

    def run(self, images: Any, *, transform: Any = None, flip: bool = False, out: Any = None) -> Keypoints:
        """Run the model and decode one person per crop.

        images: the network's input tensor, as `crop` makes it. NumPy array, or on "cuda" also a C-contiguous device
            array (CuPy, PyTorch, JAX). Any number N of them: a model of a fixed batch is run until all are done, the
            last time with black crops beside those that are left; one of a free batch gets 64 at most in a run.
        transform: (2, 3) or (N, 2, 3) affine from input pixels to whatever the points shall be in; None: input pixels.
        flip: also run the mirrored crops, and decode the mean of both.
        out: a result to write into, as in `decode_heatmap`; only where one run is enough.
        Returns Keypoints: keypoints (N, K, 2) float32 (x, y), scores (N, K) float32, on the device that ran.
        Raises what `decode_heatmap` and `decode_simcc` raise, TypeError and ValueError for `images`, RuntimeError when
        the model fails.
        """
        self._check(images, any_batch=True)
        _check.flag(flip, "flip")
        if flip and self.model.keypoint_count is not None:
            self.flip_pairs(self.model.keypoint_count)
        N = len(images)
        rows = self.model.batch or min(max(N, 1), MOST_CROPS)

        def decode(some: Any, matrices: Any, room: Any) -> Keypoints:
            return self._decode(some, matrices, flip, room)

        with self._in_order(), self._queue():
            return self._in_runs(self._here(images), transform, out, rows, Keypoints, keypoints_rows, decode)

    def _decode(self, images: Any, transform: Any, flip: bool, out: Any) -> Keypoints:
        """Keypoints of as many crops as the model takes at once. out: also a function that makes room for K of them."""
        kind, layout, heads = self.model.kind, self.model.input_layout, tuple(self.model.heads)
        maps = self._infer(images, heads)
        width, height = width_height(images.shape, layout)
        shapes = [shape_of(array) for array in maps]
        if kind == "simcc":
            count = shapes[0][1]
        else:
            count = keypoints_in(shapes[0][channel_axis(self.model.layout)], self.model.preset)
        if self.model.keypoint_count is None:
            self.keypoint_scheme(count)
        options = {
            **self._options,
            "quantization": self._quantization(heads),
            "transform": transform,
            "out": out(count) if callable(out) else out,
            "stream": self.stream,
        }
        flipped: Sequence[Any] = ()
        if flip:
            pairs = self.flip_pairs(count)
            xp = np if self.device == "cpu" else self._cupy
            mirror = images[..., ::-1] if layout == "NCHW" else images[:, :, ::-1]
            flipped = self._infer(xp.ascontiguousarray(mirror), heads)
        if kind == "simcc":
            options["split_ratio"] = self._split_ratio((width, height), shapes)
            return decode_simcc(*maps, **options, flip=Flip(flipped, pairs) if flip else None)
        mirrored = None
        if flip:
            offsets = flipped[1] if "offsets" in heads else None
            mirrored = Flip(flipped[0], pairs, offsets, self._flip_shift)
        self._check_cells((width, height), shapes[0])
        return decode_heatmap(*maps, **options, input_size=(width, height), flip=mirrored)

    def _check_cells(self, size: tuple[int, int], shape: Sequence[int]) -> None:
        """An input that the network's stride does not divide has no cells of w / W pixels."""
        rows, columns = shape[-2:] if self.model.layout == "NCHW" else shape[-3:-1]
        stride = cells.undivided(size, columns, rows, "udp" if self._udp else "msra")
        if stride is not None:
            whole, (width, height) = (columns * stride, rows * stride), size
            takes = all(fixed in (None, side) for fixed, side in zip(self.model.input_size, whole))
            give = (
                f"give size={whole}" if takes else "in Python, decode_heatmap decodes what forward() gives by scaling="
            )
            raise ValueError(
                f"size must be whole cells of the network, whose stride seems to be {stride}: {give}, got "
                f"{width}x{height}, of which it makes maps {columns} wide and {rows} high"
            )

    def _split_ratio(self, size: tuple[int, int], shapes: Sequence[Sequence[int]]) -> float:
        along_x, along_y = (shape[-1] / side for shape, side in zip(shapes, size))
        if along_x != along_y:
            raise ValueError(
                f"{self.model.name}: simcc_x and simcc_y must have as many bins a pixel of the input, which is "
                f"{size[0]} wide and {size[1]} high, got {shapes[0][-1]} and {shapes[1][-1]}"
            )
        return along_x


def _warn(text: str) -> None:
    warnings.warn(text, BoxWarning, stacklevel=3)
