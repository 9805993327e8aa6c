"""Models with PoseNet heads, which see a whole image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from posepost import Keypoints, Poses, _check, decode_posenet, decode_posenet_multi
from posepost._image import as_image, letterbox
from posepost.schemes import SchemeLike
from posepost.types import Shape

from ._graph import read_graph
from ._models import PoseModel, input_size, multi_person_problem, people_to_find, read_model
from ._posenet_heads import HEADS, fits
from ._session import Session, keypoints_rows, shape_of
from ._shapes import stride_of
from ._source import ModelLike
from ._tensors import LAYOUTS, channel_axis, dims, width_height
from .people import LEAST_SCORE, People, above


class PoseSession(Session):
    """An ONNX model with PoseNet heads, run by onnxruntime and decoded in place.

    model: path or bytes of an ONNX file, a binary file to be read, or an onnx.ModelProto, with one image input,
        (N, C, H, W) or (N, H, W, C) of 3 channels or 1, float32, float16, float64, uint8, int8, int32 or int64. Weights
        in external data lie beside the file, so that such a model is given by its path.
    heads: names of outputs, by head ("heatmaps", "offsets", "displacement_fwd", "displacement_bwd"), where shapes and
        names leave a doubt.
    output_stride: input pixels per heatmap cell; found from the sizes or the metadata when not given.
    layout: "NCHW" or "NHWC" of the outputs; found from the channel counts when not given.
    activation: "auto" reads off the graph whether the heatmaps passed a Sigmoid; "sigmoid" says that they are logits,
        None that they are scores.
    mean, std: a number or three, of the network's channels in its order, in pixel values 0..255: the input is
        (pixel - mean) / std, as `describe` prints it. Default: the metadata, else 127.5 and 127.5. An integer input
        gets the pixels as they are, int8 less 128, where neither is given; where they are, they are those of the real
        numbers that a DequantizeLinear makes of the input (whose scale may show that the default is meant), or else
        (pixel - mean) / std is rounded and must fit the dtype. Only `letterbox` uses them.
    input_channels: "RGB" or "BGR", what the network expects. Default: the metadata, else "RGB". Pictures become gray as
        Pillow's "L" makes them where the input has one channel.
    inputs: values of inputs besides the image, by name, such as {"dataset_index": 0}: numbers that broadcast to the
        declared shape, alike for all images.
    keypoints: what the keypoints are, as `posepost.keypoint_scheme` takes it. Default: the metadata, else COCO's where
        there are 17, as PoseNet has them.
    skeleton: (parent, child) pairs for `run_multi`, as in `decode_posenet_multi`. Default: PoseNet's.
    providers: of onnxruntime, as InferenceSession takes them. Default: CUDA where onnxruntime, CuPy and a GPU are
        there, else the CPU.
    device_id: CUDA device.

    `device` is "cuda" or "cpu" and `device_reason` says why. On "cuda" onnxruntime works on a CuPy stream of this
    session (`stream`), its outputs stay on the device, the decoder is launched on the same stream and nothing waits;
    results are ordered before whatever is put on CuPy's current stream afterwards. The "cuda" branch has not been run
    on a GPU yet.

    Threads may share a session: on the CPU they run side by side, on "cuda" they take turns at enqueuing. A session can
    be copied and pickled; it is then loaded again, from the path or with the bytes that it was given.

    Raises ImportError (what to install), OSError (file, missing external data), TypeError (what is no model),
    ValueError (not ONNX, heads not found or in doubt, a fact that the graph does not tell), RuntimeError (onnxruntime
    cannot load the model).
    """

    model: PoseModel

    def __init__(
        self,
        model: ModelLike,
        *,
        heads: Mapping[str, str] | None = None,
        output_stride: int | None = None,
        layout: str | None = None,
        activation: str | None = "auto",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        input_channels: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        keypoints: SchemeLike | None = None,
        skeleton: Sequence[tuple[int, int]] | None = None,
        providers: Sequence[Any] | None = None,
        device_id: int = 0,
    ) -> None:
        graph = read_graph(model)
        self.model = read_model(
            graph,
            heads=heads,
            output_stride=output_stride,
            layout=layout,
            activation=activation,
            mean=mean,
            std=std,
            input_channels=input_channels,
            inputs=inputs,
            keypoints=keypoints,
        )
        if self.model.activation == "unknown":
            raise ValueError(
                f"{self.model.name}: cannot tell whether heatmaps are logits or scores ({self.model.activation_by}); "
                'give activation="sigmoid" for logits or activation=None for scores'
            )
        self.skeleton = skeleton
        self._start(graph, providers, device_id)

    def __call__(
        self,
        image: Any,
        *,
        people: str | None = None,
        score: float | None = None,
        size: tuple[int, int] | None = None,
        channels: str = "RGB",
    ) -> People:
        """The people in one picture: reads it, turns it upright, runs the model, decodes, and waits for the result.

        image, size, channels: as for `letterbox`.
        people: "all", or "one": the likeliest keypoint of each kind, whosever it is. Default: "all" where the model has
            the heads for it.
        score: least score of a person, from 0 to 1. Default: 0.25, and 0 with people="one".
        Raises what `letterbox` and `run_multi` or `run` raise.
        """
        if people is None:
            people = people_to_find(self.model, self.skeleton)
        _check.choice(people, "people", ("one", "all"))
        least = (LEAST_SCORE if people == "all" else 0.0) if score is None else score
        _check.threshold(least, "score", True)
        picture = as_image(image, channels=channels)
        images, transform = self.letterbox(picture, size)
        if people == "all":
            found = above(self.run_multi(images, transform=transform).numpy(absent=np.nan), least)
        else:
            points, scores = self.run(images, transform=transform).numpy(absent=np.nan)
            means = scores.mean(axis=1, dtype=np.float64)
            found = points[means >= least], scores[means >= least], means[means >= least]
        return People(*found, self.keypoint_scheme(found[0].shape[1]), picture)

    def letterbox(
        self, image: Any, size: tuple[int, int] | None = None, *, channels: str = "RGB"
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """The network's input for one picture, and the transform for `run` that gives points in pixels of the picture.

        image: a path, a PIL image of any mode, turned upright by its EXIF data, or a NumPy array (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4), RGB: uint8, bool, uint16, or floats in 0..1 or 0..255. Padded with black to the
            network's aspect ratio, then resized.
        size: (width, height) for a model that takes any; default: the metadata, else 481 x 353.
        channels: "RGB", or "BGR" for arrays as OpenCV reads them.
        Returns (images, transform): images (1, C, height, width) or (1, height, width, C), normalized, in the model's
        dtype and of its C channels; transform (2, 3) float32.
        Raises OSErrors of the file system as they come, TypeError and ValueError for pictures that cannot be read or
        whose values leave a doubt: float arrays of 0 and 1 alone, 16-bit ones without a value above 255.
        """
        chosen = input_size(self.model, size)
        pixels, transform = letterbox(image, chosen, channels=channels)
        return np.ascontiguousarray(self._fed(pixels)[None]), transform

    def forward(self, images: Any, *, heads: Sequence[str] = HEADS[:2]) -> tuple[Any, ...]:
        """Run the model alone: its heads, NumPy arrays on the CPU, onnxruntime OrtValues on the device.

        images: as for `run`. heads: which of the model's heads, in this order. On "cuda" nothing waits; the result is
        ordered as that of `run` is.
        """
        for head in heads:
            if head not in self.model.heads:
                raise ValueError(f"heads must be among the model's {', '.join(self.model.heads)}, got {head!r}")
        return self._forward(images, heads)

    def run(self, images: Any, *, transform: Any = None, out: Any = None) -> Keypoints:
        """Run the model and decode one person per image.

        images: the network's input tensor, not a picture: in the model's layout and dtype, already normalized
            (`letterbox` makes it). NumPy array, or on "cuda" also a C-contiguous device array (CuPy, PyTorch, JAX). Any
            number N of them: a model of a fixed batch is run until all are done, the last time with zeros beside those
            that are left.
        transform: (2, 3) or (N, 2, 3) affine from input pixels to whatever the points shall be in; None: input pixels.
        out: a result to write into, as in `decode_posenet`; only where one run is enough.
        Returns Keypoints: keypoints (N, K, 2) float32 (x, y), scores (N, K) float32, on the device that ran.
        Raises what `decode_posenet` raises, TypeError and ValueError for `images`, RuntimeError when the model fails.
        """

        def decode(some: Any, matrices: Any, room: Any) -> Keypoints:
            maps = self._infer(some, HEADS[:2])
            return decode_posenet(*maps, **self._facts(some, maps), transform=matrices, out=self._room(room, maps))

        self._check(images, any_batch=True)
        with self._in_order(), self._queue():
            rows = self.model.batch or max(len(images), 1)
            return self._in_runs(self._here(images), transform, out, rows, Keypoints, keypoints_rows, decode)

    def run_multi(
        self,
        images: Any,
        *,
        max_poses: int = 20,
        score_threshold: float = 0.5,
        nms_radius: float = 20.0,
        mode: str = "tfjs",
        transform: Any = None,
        out: Any = None,
    ) -> Poses:
        """Run the model and decode all people in each image.

        images, transform: as for `run`. max_poses, score_threshold, nms_radius, mode, out: as in
        `decode_posenet_multi`.
        Returns Poses: keypoints (N, P, K, 2) float32 (x, y), keypoint_scores (N, P, K) float32, scores (N, P) float32,
        count (N,) int32 with P = max_poses, on the device that ran.
        Raises ValueError where `multi_person_problem` has something to say, what `decode_posenet_multi` raises,
        TypeError and ValueError for `images`, RuntimeError when the model fails.
        """
        problem = multi_person_problem(self.model, self.skeleton)
        if problem:
            raise ValueError(problem)
        _check.count(max_poses, "max_poses")

        def decode(some: Any, matrices: Any, room: Any) -> Poses:
            maps = self._infer(some, HEADS)
            return decode_posenet_multi(
                *maps,
                **self._facts(some, maps),
                max_poses=max_poses,
                score_threshold=score_threshold,
                nms_radius=nms_radius,
                mode=mode,
                skeleton=self.skeleton,
                transform=matrices,
                out=self._room(room, maps),
            )

        def row_shapes(count: int) -> tuple[Shape, ...]:
            return (max_poses, count, 2), (max_poses, count), (max_poses,), ()

        self._check(images, any_batch=True)
        with self._in_order(), self._queue():
            rows = self.model.batch or max(len(images), 1)
            return self._in_runs(self._here(images), transform, out, rows, Poses, row_shapes, decode)

    def _room(self, out: Any, maps: Sequence[Any]) -> Any:
        """`out`, or what it makes for as many keypoints as the heatmaps have."""
        if not callable(out):
            return out
        heatmaps, offsets = shape_of(maps[0]), shape_of(maps[1])
        return out(heatmaps[channel_axis(self._layout_of(heatmaps, offsets))])

    def _layout_of(self, heatmaps: Sequence[int], offsets: Sequence[int]) -> str:
        return self.model.layout or next((name for name in LAYOUTS if fits(heatmaps, offsets, name)), LAYOUTS[0])

    def _facts(self, images: Any, maps: Sequence[Any]) -> dict[str, Any]:
        """What a decoder must be told of the first `len(maps)` heads."""
        heads = HEADS[: len(maps)]
        if self.model.layout is None:  # the graph did not tell K
            channels = [h for h, o in zip(shape_of(maps[0]), shape_of(maps[1])) if 2 * h == o]
            self.keypoint_scheme(channels[0] if channels else 0)
        return {
            "output_stride": self._stride_for(images.shape, shape_of(maps[0]), shape_of(maps[1])),
            "layout": self.model.layout,
            "activation": self.model.activation,
            "quantization": self._quantization(heads),
            "stream": self.stream,
        }

    def _stride_for(self, images: Sequence[int], heatmaps: Sequence[int], offsets: Sequence[int]) -> int:
        layout = self._layout_of(heatmaps, offsets)
        sides, cells = width_height(images, self.model.input_layout), width_height(heatmaps, layout)
        if self.model.output_stride is not None:
            self._check_stride(self.model.output_stride, sides, cells)
            return self.model.output_stride
        stride = stride_of(sides, cells)
        if stride is None:
            raise ValueError(
                f"{self.model.name}: cannot tell the output stride from an input of {dims(images)} and heatmaps of "
                f"{dims(heatmaps)}; give output_stride="
            )
        return stride

    def _check_stride(self, stride: float, sides: tuple[int, int], cells: tuple[int, int]) -> None:
        """Cells cover the input, but for one at its sides."""
        if any(abs(cell - side / stride) > 1 for side, cell in zip(sides, cells)):
            (width, height), (columns, rows) = sides, cells
            stated = self.model.output_stride_by == "metadata"
            raise ValueError(
                f"{f'{self.model.name}: posepost.' * stated}output_stride must be the input pixels of a cell, of which "
                f"an input of {width}x{height} has {columns}x{rows}, got {stride}"
            )
