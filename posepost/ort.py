"""ONNX pose models through onnxruntime, with their outputs left on the device.

`PoseSession` is for models of the PoseNet kind, which see a whole picture: it loads one, finds its heads, runs it and
decodes what it gives. `TopDownSession` is for models that see a crop of each person, with heatmaps or SimCC.
`recognise` tells which of the two a file is for; `read_model` and `read_topdown` only read the graph.
Needs the packages onnx and onnxruntime (`pip install "posepost[ort]"`, on a machine with a GPU `"posepost[ort-gpu]"`).

Metadata of a model (`metadata_props`) that is honoured: `posepost.mean`, `posepost.std` (one number or R,G,B, of pixels
0..255), `posepost.output_stride`, `posepost.input_size` (height,width to run at, where the model takes any),
`posepost.keypoints` (names, separated by commas).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from posepost import (
    Keypoints,
    Poses,
    _check,
    _kernels,
    _view,
    box_to_crop,
    crop_to_image,
    decode_heatmap,
    decode_posenet,
    decode_posenet_multi,
    decode_simcc,
)
from posepost._image import as_image, letterbox, warp
from posepost.draw import COCO_KEYPOINTS
from posepost.ref.heatmap import PRESETS as HEATMAP_PRESETS
from posepost.ref.simcc import PRESETS as SIMCC_PRESETS
from posepost.types import Origin, on_device

DEFAULT_SIZE = (353, 481)
DEFAULT_MEAN = DEFAULT_STD = 127.5
TOPDOWN_SIZE = (256, 192)
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
HEADS = ("heatmaps", "offsets", "displacement_fwd", "displacement_bwd")
TOPDOWN_HEADS = {"heatmap": ("heatmaps",), "simcc": ("simcc_x", "simcc_y")}
PRESETS = {"heatmap": HEATMAP_PRESETS, "simcc": SIMCC_PRESETS}
DEFAULT_PRESETS = {"heatmap": "mmpose_msra", "simcc": "rtmpose"}
MOST_CROPS = 64  # that a model of a free batch gets in one run
MOST_PER_CELL = 32  # input pixels from one cell of a heatmap to the next
LAYOUTS = ("NCHW", "NHWC")

# What a heatmap may pass on its way to the output without becoming, or ceasing to be, a score.
_TRANSPARENT = {
    "Transpose", "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Concat",
    "Resize", "Upsample", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
_GIVES_SCORES = {"Sigmoid", "HardSigmoid", "Softmax", "QLinearSigmoid"}
_GIVES_LOGITS = {"Conv", "ConvTranspose", "QLinearConv", "Gemm", "MatMul", "QLinearMatMul", "BatchNormalization"}
_KEEPS_LOGITS = {"Add", "Mul", "Sub", "Div"}  # of one value with constants; a score does not survive these


class Tensor(NamedTuple):
    """An input or output as the graph declares it; None marks a size that is free."""

    dtype: str
    shape: tuple[int | None, ...]


class PoseModel(NamedTuple):
    """What `read_model` saw in a graph. `*_by` tell how it knows."""

    name: str
    input_name: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    input_layout: str
    heads: dict[str, str]
    heads_by: str
    layout: str | None
    activation: str | None  # "sigmoid": logits; None: already scores; "unknown"
    activation_by: str
    output_stride: int | None
    output_stride_by: str
    quantization: dict[str, tuple[float, int]]
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    normalisation_by: str
    keypoints: tuple[str, ...]
    input_size: tuple[int | None, int | None]  # height, width of the input; None where the model takes any
    usual_size: tuple[int, int]  # to run at when the caller names no size


class TopDownModel(NamedTuple):
    """What `read_topdown` saw in a graph. `*_by` tell how it knows."""

    name: str
    input_name: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    input_layout: str
    kind: str  # "heatmap" or "simcc"
    heads: dict[str, str]
    heads_by: str
    layout: str | None  # of heatmaps
    sizes: tuple[int | None, int | None]  # heatmaps: height, width; SimCC: bins along x, along y
    ratio: float | None  # heatmaps: input pixels a cell; SimCC: bins an input pixel; None: known when it runs
    preset: str
    preset_by: str
    activation: str | None  # "sigmoid": logits; None: already scores
    activation_by: str
    quantization: dict[str, tuple[float, int]]
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    normalisation_by: str
    keypoint_count: int | None  # None: known when it runs
    keypoints: tuple[str, ...]
    input_size: tuple[int | None, int | None]  # height, width of the input; None where the model takes any
    usual_size: tuple[int, int]  # to run at when the caller names no size


class Recognised(NamedTuple):
    """Which head a model has: "posenet", "heatmap" or "simcc"."""

    kind: str
    heads: dict[str, str]  # head -> output
    by: str
    layout: str | None
    dtype: str  # of the first head


class _Session:
    """A model in onnxruntime, on a stream of its own where there is a GPU. Its outputs stay where they are made."""

    model: Any

    def _start(self, model: str | os.PathLike[str] | bytes, providers: Sequence[Any] | None, device_id: int) -> None:
        onnxruntime = _need("onnxruntime")
        available = onnxruntime.get_available_providers()
        self.device, self.device_reason = choose_device(providers, available, _cupy_problem)
        self.stream: Any = None
        self._cupy: Any = None
        self._event: Any = None
        self._device_id = device_id
        if self.device == "cuda":
            self._cupy = importlib.import_module("cupy")
            with self._cupy.cuda.Device(device_id):
                self.stream = self._cupy.cuda.Stream(non_blocking=True)  # stream 0 is "not set" to onnxruntime
                self._event = self._cupy.cuda.Event(disable_timing=True)
            if hasattr(onnxruntime, "preload_dlls"):
                with contextlib.redirect_stdout(io.StringIO()):
                    onnxruntime.preload_dlls()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = 4
        pointer = self.stream.ptr if self.stream is not None else None
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else os.fspath(model),
                options,
                providers=provider_list(providers, self.device, device_id, pointer),
                enable_fallback=0,
            )
        except Exception as error:  # onnxruntime's own exceptions share no base but Exception
            raise RuntimeError(f"{self.model.name}: onnxruntime cannot load the model: {_one_line(error)}") from error
        if self.device == "cuda":
            self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            if "CUDAExecutionProvider" not in self._session.get_providers():
                self.device, self.stream = "cpu", None
                self.device_reason = "onnxruntime could not start its CUDA provider (posepost doctor tells more)"
                warnings.warn(
                    f"{type(self).__name__} runs on the CPU: {self.device_reason}", RuntimeWarning, stacklevel=3
                )

    def describe(self) -> str:
        """What is known of the model, and where it runs, in a few lines."""
        return f"{describe(self.model)}\n{'device':<17}{self.device}: {self.device_reason}"

    @contextlib.contextmanager
    def _in_order(self) -> Iterator[None]:
        """What happens inside comes after what CuPy's current stream holds, and before what is put on it later."""
        if self.device == "cpu":
            yield
            return
        with self._cupy.cuda.Device(self._device_id):
            caller = self._cupy.cuda.get_current_stream()
            caller.record(self._event)
            self.stream.wait_event(self._event)
            yield
            self.stream.record(self._event)
            caller.wait_event(self._event)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # as in __init__
            raise RuntimeError(f"{self.model.name}: the model failed while running: {_one_line(error)}") from error

    def _check(self, images: Any, any_batch: bool = False) -> None:
        if self.device == "cpu" and not isinstance(images, np.ndarray):
            raise TypeError(
                f"images must be a NumPy array, because this session runs on the CPU ({self.device_reason}), "
                f"got {type(images).__name__}"
            )
        if not hasattr(images, "dtype") or not hasattr(images, "shape"):
            raise TypeError(f"images must be an array, got {type(images).__name__}")
        want = self.model.inputs[self.model.input_name]
        dtype, shape = str(images.dtype).removeprefix("torch."), tuple(images.shape)
        if dtype != want.dtype:
            raise TypeError(f"images must have the model's dtype {want.dtype}, got {dtype}")
        takes = (None, *want.shape[1:]) if any_batch else want.shape
        if len(shape) != len(takes) or any(w not in (None, g) for w, g in zip(takes, shape)):
            raise ValueError(f"images must have shape {_dims(takes)}, got {_dims(shape)}")

    def keypoint_names(self, count: int) -> tuple[str, ...]:
        """The model's own names, or else those of `count` keypoints."""
        return self.model.keypoints or _keypoint_names(self.model.name, None, count)

    def _queue(self) -> contextlib.AbstractContextManager[Any]:
        """CuPy allocates and copies on the session's stream inside; nothing on the CPU."""
        return self.stream if self.device == "cuda" else contextlib.nullcontext()

    def _here(self, images: Any) -> Any:
        """Checked images where the model runs, as a NumPy or CuPy array; device arrays are not copied."""
        if self.device == "cpu":
            return images
        on_host = isinstance(images, np.ndarray) or not hasattr(images, "__dlpack__")
        array = self._cupy.asarray(images) if on_host else self._cupy.from_dlpack(images)
        _view.tell_torch(images, self.stream.ptr, self._device_id)
        if not array.flags.c_contiguous:
            raise ValueError("images must be C-contiguous on the device; make a contiguous copy")
        return array

    def _infer(self, array: Any, heads: Sequence[str]) -> tuple[Any, ...]:
        """Heads of the model for what `_here` gave, inside `_queue`."""
        names = [self.model.heads[head] for head in heads]
        if self.device == "cpu":
            with self._failing():
                return tuple(self._session.run(names, {self.model.input_name: array}, self._run_options))
        binding = self._session.io_binding()
        binding.bind_input(
            self.model.input_name, "cuda", self._device_id, array.dtype.type, array.shape, array.data.ptr
        )
        for name in names:
            binding.bind_output(name, "cuda", self._device_id)
        with self._failing():
            self._session.run_with_iobinding(binding, self._run_options)
        return tuple(binding.get_outputs())

    def _quantization(self, heads: Sequence[str]) -> dict[str, tuple[float, int]] | None:
        return {head: self.model.quantization[head] for head in heads if head in self.model.quantization} or None

    def _normalised(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """(H, W, 3) pixels in the model's dtype and layout; a uint8 model gets them as they are."""
        dtype = np.dtype(self.model.inputs[self.model.input_name].dtype)
        values: npt.NDArray[Any] = pixels
        if dtype != np.uint8:
            values = ((pixels - self.model.mean) / self.model.std).astype(dtype)
        return values.transpose(2, 0, 1) if self.model.input_layout == "NCHW" else values


class PoseSession(_Session):
    """An ONNX model with PoseNet heads, run by onnxruntime and decoded where its outputs lie.

    model: path or bytes of an ONNX file with one image input, (N, 3, H, W) or (N, H, W, 3), float32, float16 or uint8.
    heads: names of outputs, by head ("heatmaps", "offsets", "displacement_fwd", "displacement_bwd"), where shapes and
        names leave a doubt.
    output_stride: input pixels per heatmap cell; found from the sizes or the metadata when not given.
    layout: "NCHW" or "NHWC" of the outputs; found from the channel counts when not given.
    activation: "auto" reads off the graph whether the heatmaps passed a Sigmoid; "sigmoid" says that they are logits,
        None that they are scores.
    mean, std: a number or three (RGB), in pixel values 0..255: the input is (pixel - mean) / std. Default: the
        metadata, else 127.5 and 127.5. Only `letterbox` uses them.
    skeleton: (parent, child) pairs for `run_multi`, as in `decode_posenet_multi`. Default: PoseNet's.
    providers: of onnxruntime, as InferenceSession takes them. Default: CUDA where onnxruntime, CuPy and a GPU are
        there, else the CPU.
    device_id: CUDA device.

    `device` is "cuda" or "cpu" and `device_reason` says why. On "cuda" onnxruntime works on a CuPy stream of this
    session (`stream`), its outputs stay on the device, the decoder is launched on the same stream and nothing waits;
    results are ordered before whatever is put on CuPy's current stream afterwards. The "cuda" branch has not been run
    on a GPU yet. A session is for one thread at a time.

    Raises ImportError (what to install), OSError (file), ValueError (not ONNX, heads not found or in doubt, a fact that
    the graph does not tell), RuntimeError (onnxruntime cannot load the model).
    """

    model: PoseModel

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        heads: Mapping[str, str] | None = None,
        output_stride: int | None = None,
        layout: str | None = None,
        activation: str | None = "auto",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        skeleton: Sequence[tuple[int, int]] | None = None,
        providers: Sequence[Any] | None = None,
        device_id: int = 0,
    ) -> None:
        self.model = read_model(
            model, heads=heads, output_stride=output_stride, layout=layout, activation=activation, mean=mean, std=std
        )
        if self.model.activation == "unknown":
            raise ValueError(
                f"{self.model.name}: cannot tell whether heatmaps are logits or scores ({self.model.activation_by}); "
                'give activation="sigmoid" for logits or activation=None for scores'
            )
        self.skeleton = skeleton
        self._start(model, providers, device_id)

    def letterbox(
        self, image: Any, size: tuple[int, int] | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """The network's input for one picture, and the transform for `run` that gives points in pixels of the picture.

        image: PIL image or (H, W, 3) uint8 array, RGB; padded with black to the network's aspect ratio, then resized.
        size: (height, width) for a model that takes any; default: the metadata, else 353 x 481.
        Returns (images, transform): images (1, 3, height, width) or (1, height, width, 3), normalised, in the model's
        dtype (a uint8 model gets the pixels as they are); transform (2, 3) float32.
        """
        chosen = input_size(self.model, size)
        pixels, transform = letterbox(image, chosen)
        return np.ascontiguousarray(self._normalised(pixels)[None]), transform

    def forward(self, images: Any, *, heads: Sequence[str] = HEADS[:2]) -> tuple[Any, ...]:
        """Run the model alone: its heads, NumPy arrays on the CPU, onnxruntime OrtValues on the device.

        images: as for `run`. heads: which of the model's heads, in this order. On "cuda" nothing waits; the result is
        ordered as that of `run` is.
        """
        for head in heads:
            if head not in self.model.heads:
                raise ValueError(f"heads must be among the model's {', '.join(self.model.heads)}, got {head!r}")
        with self._in_order():
            return self._forward(images, heads)

    def _forward(self, images: Any, heads: Sequence[str]) -> tuple[Any, ...]:
        self._check(images)
        with self._queue():
            return self._infer(self._here(images), heads)

    def run(self, images: Any, *, transform: Any = None, out: Any = None) -> Keypoints:
        """Run the model and decode one person per image.

        images: the network's input tensor, not a picture: in the model's layout and dtype, already normalised
            (`letterbox` makes it). NumPy array, or on "cuda" also a C-contiguous device array (CuPy, PyTorch, JAX).
        transform: (2, 3) or (N, 2, 3) affine from input pixels to whatever the points shall be in; None: input pixels.
        out: a result to write into, as in `decode_posenet`.
        Returns Keypoints: keypoints (N, K, 2) float32 (x, y), scores (N, K) float32, on the device that ran.
        Raises what `decode_posenet` raises, TypeError and ValueError for `images`, RuntimeError when the model fails.
        """
        with self._in_order():
            maps = self._forward(images, HEADS[:2])
            return decode_posenet(*maps, **self._facts(images, maps), transform=transform, out=out)

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
        """Run the model and decode everybody in each image.

        images, transform: as for `run`. max_poses, score_threshold, nms_radius, mode, out: as in
        `decode_posenet_multi`.
        Returns Poses: keypoints (N, P, K, 2) float32 (x, y), keypoint_scores (N, P, K) float32, scores (N, P) float32,
        count (N,) int32 with P = max_poses, on the device that ran.
        Raises ValueError where `several_people_problem` has something to say, what `decode_posenet_multi` raises,
        TypeError and ValueError for `images`, RuntimeError when the model fails.
        """
        problem = several_people_problem(self.model, self.skeleton)
        if problem:
            raise ValueError(problem)
        with self._in_order():
            maps = self._forward(images, HEADS)
            return decode_posenet_multi(
                *maps,
                **self._facts(images, maps),
                max_poses=max_poses,
                score_threshold=score_threshold,
                nms_radius=nms_radius,
                mode=mode,
                skeleton=self.skeleton,
                transform=transform,
                out=out,
            )

    def _facts(self, images: Any, maps: Sequence[Any]) -> dict[str, Any]:
        """What a decoder must be told of the first `len(maps)` heads."""
        heads = HEADS[: len(maps)]
        return {
            "output_stride": self._stride_for(images.shape, _shape(maps[0]), _shape(maps[1])),
            "layout": self.model.layout,
            "activation": self.model.activation,
            "quantization": self._quantization(heads),
            "stream": self.stream,
        }

    def _stride_for(self, images: Sequence[int], heatmaps: Sequence[int], offsets: Sequence[int]) -> int:
        if self.model.output_stride is not None:
            return self.model.output_stride
        layout = self.model.layout or next((name for name in LAYOUTS if _fits(heatmaps, offsets, name)), LAYOUTS[0])
        stride = stride_of(_height_width(images, self.model.input_layout), _height_width(heatmaps, layout))
        if stride is None:
            raise ValueError(
                f"{self.model.name}: cannot tell the output stride from an input of {_dims(images)} and heatmaps of "
                f"{_dims(heatmaps)}; give output_stride="
            )
        return stride


class TopDownSession(_Session):
    """An ONNX model that sees a crop of each person, run by onnxruntime and decoded where its outputs lie.

    model: path or bytes of an ONNX file with one image input, (N, 3, H, W) or (N, H, W, 3), float32, float16 or uint8,
        and either heatmaps (N, K, H / s, W / s) or (N, H / s, W / s, K), or SimCC's (N, K, r * W) and (N, K, r * H).
    preset: whose rules decode: a preset of `decode_heatmap` or `decode_simcc`. The graph does not tell. Default:
        "mmpose_msra" for heatmaps, "rtmpose" for SimCC. Heatmaps of 3K channels are "mmpose_udp_combined" only when
        that is said here.
    heads: names of outputs, by head ("heatmaps", or "simcc_x" and "simcc_y"), where shapes and names leave a doubt.
    layout: "NCHW" or "NHWC" of the heatmaps; found from the sizes when not given.
    activation: "auto" takes the preset's, but no second Sigmoid where the graph has one; "sigmoid" says that the
        outputs are logits, None that they are scores.
    mean, std: a number or three (RGB), in pixel values 0..255: the input is (pixel - mean) / std. Default: the
        metadata, else ImageNet's (123.675, 116.28, 103.53) and (58.395, 57.12, 57.375). Only `crop` uses them.
    flip_pairs: the keypoint that stands for each one in the mirrored image, for `run(flip=True)`. Default: what the
        names of the keypoints say, left for right.
    flip_shift: whether mirrored heatmaps are moved by one cell, as in `decode_heatmap`. Default: where a preset counts
        cells from the upper left pixel of each, as HRNet's and MMPose's MSRA and DARK do.
    providers, device_id: as for `PoseSession`.

    `device`, `device_reason`, `stream`, the order of what is enqueued, and errors are as for `PoseSession`. The "cuda"
    branch has not been run on a GPU yet. A session is for one thread at a time.
    """

    model: TopDownModel

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        preset: str | None = None,
        heads: Mapping[str, str] | None = None,
        layout: str | None = None,
        activation: str | None = "auto",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        flip_pairs: Sequence[int] | None = None,
        flip_shift: bool | None = None,
        providers: Sequence[Any] | None = None,
        device_id: int = 0,
    ) -> None:
        self.model = read_topdown(
            model, preset=preset, heads=heads, layout=layout, activation=activation, mean=mean, std=std
        )
        rules = PRESETS[self.model.kind][self.model.preset]
        self._given_pairs = None if flip_pairs is None else _check.flip_pairs(flip_pairs)
        if flip_pairs is not None and self.model.keypoint_count is not None:
            self.flip_pairs(self.model.keypoint_count)
        self._udp = rules.get("scaling") == "udp"
        from_corner = not self._udp and not rules.get("center_shift") and rules.get("refine") != "megvii"
        self._options: dict[str, Any] = {**rules, "activation": self.model.activation}
        if self.model.kind == "heatmap":
            self._options["layout"] = self.model.layout
            self._flip_shift = from_corner if flip_shift is None else flip_shift
        elif flip_shift is not None:
            raise ValueError(f"flip_shift is for heatmaps, got it for the SimCC model {self.model.name}")
        self._start(model, providers, device_id)

    def crop(
        self, image: Any, boxes: Any = None, *, padding: float = 1.25, size: tuple[int, int] | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """The network's input for the people in one picture, and the transforms for `run` that give points in pixels of
        the picture.

        image: PIL image or (H, W, 3) uint8 array, RGB.
        boxes: (N, 4), x0, y0, x1, y1 of each person in pixels of the picture, to the aspect ratio of the network's
            input and `padding` times as large cut out, bilinear, black outside the picture. None: the whole picture.
        size: (height, width) for a model that takes any; default: the metadata, else 256 x 192.
        Returns (images, transforms): images (N, 3, height, width) or (N, height, width, 3), normalised, in the model's
        dtype (a uint8 model gets the pixels as they are); transforms (N, 2, 3) float32.
        Raises ValueError for boxes that are empty, not finite or beside the picture.
        """
        height, width = input_size(self.model, size)
        picture = as_image(image)
        if boxes is None:
            boxes = (0, 0, *picture.size)
        elif isinstance(boxes, (list, tuple)) and not boxes:
            boxes = np.empty((0, 4))
        with np.errstate(invalid="ignore"):  # boxes that are not finite are named below
            centers, scales = box_to_crop(boxes, (width, height), padding=padding)
        _check_boxes(np.reshape(np.asarray(boxes, np.float64), (-1, 4)), picture.size)
        cuts = crop_to_image(centers, scales, (width, height), udp=self._udp)
        shape = (3, height, width) if self.model.input_layout == "NCHW" else (height, width, 3)
        images = np.empty((len(cuts), *shape), self.model.inputs[self.model.input_name].dtype)
        for row, matrix in zip(images, cuts):
            row[...] = self._normalised(warp(picture, matrix, (height, width)))
        return images, crop_to_image(centers, scales, (width, height)) if self._udp else cuts

    def flip_pairs(self, count: int) -> tuple[int, ...]:
        """The partner of each of the model's `count` keypoints in the mirrored image: as given, or by their names."""
        pairs = self._given_pairs or left_for_right(self.keypoint_names(count))
        if pairs is None:
            raise ValueError(
                f"flip_pairs must be given for a flip test (--flip-pairs), because the names of the {count} keypoints "
                f"of {self.model.name} do not tell left from right, got None"
            )
        if len(pairs) != count:
            raise ValueError(f"flip_pairs must name the partner of each of {count} keypoints, got {len(pairs)}")
        return pairs

    def forward(self, images: Any) -> tuple[Any, ...]:
        """Run the model alone: heatmaps, or SimCC's two, NumPy arrays on the CPU, onnxruntime OrtValues on the device.

        images: as for `run`, and as many as the model takes at once. On "cuda" nothing waits; the result is ordered as
        that of `run` is.
        """
        self._check(images)
        with self._in_order(), self._queue():
            return self._infer(self._here(images), TOPDOWN_HEADS[self.model.kind])

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
        if flip and self.model.keypoint_count is not None:
            self.flip_pairs(self.model.keypoint_count)
        N = len(images)
        rows = self.model.inputs[self.model.input_name].shape[0] or min(max(N, 1), MOST_CROPS)
        with self._in_order(), self._queue():
            images = self._here(images)
            if N == rows:
                return self._decode(images, transform, flip, out)
            if out is not None:
                raise ValueError(f"out must be None where the model takes {rows} crops a run, got {N} crops")
            return self._piecewise(images, rows, transform, flip)

    def _piecewise(self, images: Any, rows: int, transform: Any, flip: bool) -> Keypoints:
        """`_decode` of any number of crops, `rows` at a time, into one result."""
        xp = np if self.device == "cpu" else self._cupy
        N = len(images)
        result: list[Any] = []

        def room(start: int, count: int) -> tuple[Any, Any]:
            if not result:
                whole = -(-N // rows) * rows
                result.extend((xp.empty((whole, count, 2), np.float32), xp.empty((whole, count), np.float32)))
            return result[0][start : start + rows], result[1][start : start + rows]

        if transform is not None:
            try:
                transform = xp.asarray(transform, np.float32)
            except (TypeError, ValueError):
                rule = f"transform must be numbers of shape (2, 3) or ({N}, 2, 3)"
                raise TypeError(f"{rule}, got {transform!r}") from None
            if transform.shape not in ((2, 3), (N, 2, 3)):
                raise ValueError(f"transform must have shape (2, 3) or ({N}, 2, 3), got {transform.shape}")
        for start in range(0, N, rows):
            matrices = transform
            if matrices is not None and matrices.ndim == 3:
                matrices = _filled_up(xp, matrices[start : start + rows], rows)
            some = _filled_up(xp, images[start : start + rows], rows)
            self._decode(some, matrices, flip, functools.partial(room, start))
        if not N:
            room(0, self.model.keypoint_count or 0)
        points, scores = (array[:N] for array in result)
        if self.device == "cpu":
            return Keypoints(points, scores)
        places = points.data.ptr, scores.data.ptr
        origin = Origin(self._device_id, "cupy", *places, self.stream.ptr, None, points.shape, holder=self.stream)
        return on_device(points, scores, origin)

    def _decode(self, images: Any, transform: Any, flip: bool, out: Any) -> Keypoints:
        """Keypoints of as many crops as the model takes at once. out: also a function that makes room for K of them."""
        kind, layout = self.model.kind, self.model.input_layout
        maps = self._infer(images, TOPDOWN_HEADS[kind])
        height, width = _height_width(images.shape, layout)
        shapes = [_shape(array) for array in maps]
        count = shapes[0][1] if kind == "simcc" else _keypoints_in(shapes[0], self.model.layout, self.model.preset)
        options = {
            **self._options,
            "quantization": self._quantization(TOPDOWN_HEADS[kind]),
            "transform": transform,
            "out": out(count) if callable(out) else out,
            "stream": self.stream,
        }
        mirrored: tuple[Any, ...] = ()
        if flip:
            options["flip_pairs"] = self.flip_pairs(count)
            xp = np if self.device == "cpu" else self._cupy
            mirror = images[..., ::-1] if layout == "NCHW" else images[:, :, ::-1]
            mirrored = self._infer(xp.ascontiguousarray(mirror), TOPDOWN_HEADS[kind])
        if kind == "simcc":
            options["split_ratio"] = self._split_ratio((width, height), shapes)
            options.update(zip(("flipped_x", "flipped_y"), mirrored))
            return decode_simcc(*maps, **options)
        if flip:
            options.update(flipped=mirrored[0], flip_shift=self._flip_shift)
        return decode_heatmap(*maps, **options, input_size=(width, height))

    def _split_ratio(self, size: tuple[int, int], shapes: Sequence[Sequence[int]]) -> float:
        along_x, along_y = (shape[-1] / side for shape, side in zip(shapes, size))
        if along_x != along_y:
            raise ValueError(
                f"{self.model.name}: simcc_x and simcc_y must have as many bins a pixel of the input, which is "
                f"{size[0]} wide and {size[1]} high, got {shapes[0][-1]} and {shapes[1][-1]}"
            )
        return along_x


def recognise(
    model: str | os.PathLike[str] | bytes, *, heads: Mapping[str, str] | None = None, layout: str | None = None
) -> Recognised:
    """Which head an ONNX model has: heatmaps with offsets are "posenet", heatmaps alone "heatmap", two vectors "simcc".

    Arguments as for `PoseSession` and `TopDownSession`. Raises OSError (file), ValueError (not ONNX, no head or several
    among the outputs).
    """
    name, proto = _name(model), load_proto(model)
    inputs, outputs = signature(proto)
    given = dict(heads or {})
    _check_given(outputs, given, (*HEADS, *TOPDOWN_HEADS["simcc"]))
    if set(given) & {*HEADS[1:]} or _posenet_pairs(outputs, given, layout)[1]:
        found, how, found_layout = find_heads(name, outputs, given, layout)
        return Recognised("posenet", found, how, found_layout, outputs[found["heatmaps"]].dtype)
    return _find_topdown(name, proto, inputs, outputs, given, layout)[0]


def read_topdown(
    model: str | os.PathLike[str] | bytes,
    *,
    preset: str | None = None,
    heads: Mapping[str, str] | None = None,
    layout: str | None = None,
    activation: str | None = "auto",
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> TopDownModel:
    """Read the graph of a top-down ONNX model without running it. Arguments and errors as for `TopDownSession`."""
    _check_choices(layout, activation)
    name, proto = _name(model), load_proto(model)
    inputs, outputs = signature(proto)
    given = dict(heads or {})
    _check_given(outputs, given, tuple(head for kind in TOPDOWN_HEADS.values() for head in kind))
    found, shapes, usual = _find_topdown(name, proto, inputs, outputs, given, layout)
    kind = found.kind
    if preset is not None:
        _check.choice(preset, "preset", tuple(PRESETS[kind]))
    chosen = preset or DEFAULT_PRESETS[kind]
    for output in found.heads.values():
        if outputs[output].dtype not in _kernels.ELEMENTS:
            *most, last = _kernels.ELEMENTS
            raise ValueError(
                f"{name}: the output {output} must be {', '.join(most)} or {last}, got {outputs[output].dtype}"
            )
    dtypes = [outputs[output].dtype for output in found.heads.values()]
    if len(set(dtypes)) > 1:
        raise ValueError(f"{name}: simcc_x and simcc_y must have one dtype, got {' and '.join(dtypes)}")
    first = shapes[found.heads[TOPDOWN_HEADS[kind][0]]]
    input_name, input_layout = _find_input(name, inputs)
    sizes: tuple[int | None, int | None]
    ratio: float | None
    if kind == "heatmap":
        channels = first[_channel_axis(found.layout)]
        if preset is None and channels == 3 * len(COCO_KEYPOINTS):
            raise ValueError(
                f"{name}: {channels} channels may be {channels} keypoints or {len(COCO_KEYPOINTS)} with offsets; give "
                'preset="mmpose_udp_combined" (--preset mmpose_udp_combined) for offsets, or another preset for '
                f"{channels} keypoints"
            )
        if chosen == "mmpose_udp_combined" and channels is not None and channels % 3:
            raise ValueError(
                f"{name}: heatmaps must have three channels a keypoint (class, x, y) for mmpose_udp_combined, "
                f"got {channels}"
            )
        count = None if channels is None else _keypoints_in(first, found.layout, chosen)
        sizes = _height_width(first, found.layout or "NCHW")
        ratio = next(iter(_ratios(usual, sizes)), None)
    else:
        count = first[1]
        sizes = first[2], shapes[found.heads["simcc_y"]][2]
        ratio = sizes[0] / usual[1] if sizes[0] else None
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    producers = {output: node for node in proto.graph.node for output in node.output}
    constants = {value.name: value for value in proto.graph.initializer}
    if activation == "auto":
        activation, activation_by = PRESETS[kind][chosen].get("activation"), f"preset {chosen}"
        if activation is not None:
            seen, why = find_activation(producers, set(constants), found.heads[TOPDOWN_HEADS[kind][0]])
            activation, activation_by = (None, why) if seen is None else (activation, activation_by)
    else:
        activation_by = "given"
    return TopDownModel(
        name=name,
        input_name=input_name,
        inputs=inputs,
        outputs=outputs,
        input_layout=input_layout,
        kind=kind,
        heads=found.heads,
        heads_by=found.by,
        layout=found.layout,
        sizes=sizes,
        ratio=ratio,
        preset=chosen,
        preset_by="default" if preset is None else "given",
        activation=activation,
        activation_by=activation_by,
        quantization=_find_quantization(name, producers, constants, found.heads, outputs),
        mean=_three("mean", mean, metadata.get("posepost.mean"), IMAGENET_MEAN),
        std=_three("std", std, metadata.get("posepost.std"), IMAGENET_STD),
        normalisation_by=_normalisation_by(mean, std, metadata),
        keypoint_count=count,
        keypoints=_keypoint_names(name, metadata.get("posepost.keypoints"), count),
        input_size=_height_width(inputs[input_name].shape, input_layout),
        usual_size=usual,
    )


def left_for_right(names: Sequence[str]) -> tuple[int, ...] | None:
    """The keypoint that stands for each one in the mirrored image, from names such as left_eye; None if they do not
    tell."""
    lower = [name.lower() for name in names]
    swapped = [re.sub("left|right", lambda side: "right" if side[0] == "left" else "left", name) for name in lower]
    if not set(swapped) <= set(lower) or len(set(lower)) != len(lower):
        return None
    pairs = tuple(lower.index(name) for name in swapped)
    return None if pairs == tuple(range(len(pairs))) else pairs


def read_model(
    model: str | os.PathLike[str] | bytes,
    *,
    heads: Mapping[str, str] | None = None,
    output_stride: int | None = None,
    layout: str | None = None,
    activation: str | None = "auto",
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> PoseModel:
    """Read the graph of an ONNX model without running it. Arguments and errors as for `PoseSession`.

    A fact that the graph does not tell is left open here: activation "unknown", output_stride None.
    """
    _check_choices(layout, activation)
    name, proto = _name(model), load_proto(model)
    inputs, outputs = signature(proto)
    input_name, input_layout = _find_input(name, inputs)
    found, heads_by, found_layout = find_heads(name, outputs, dict(heads or {}), layout)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    producers = {output: node for node in proto.graph.node for output in node.output}
    constants = {value.name: value for value in proto.graph.initializer}
    if activation == "auto":
        activation, activation_by = find_activation(producers, set(constants), found["heatmaps"])
    else:
        activation_by = "given"
    size = _height_width(inputs[input_name].shape, input_layout)
    preferred = _two(name, metadata.get("posepost.input_size"), DEFAULT_SIZE)
    usual = (size[0] or preferred[0], size[1] or preferred[1])
    if output_stride is not None:
        stride_by = "given"
    elif "posepost.output_stride" in metadata:
        text = metadata["posepost.output_stride"]
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{name}: posepost.output_stride must be a positive integer, got {text!r}")
        output_stride, stride_by = int(text), "metadata"
    else:
        output_stride, stride_by = _find_stride(proto, input_name, usual, found["heatmaps"], input_layout, found_layout)
    heatmaps = outputs[found["heatmaps"]].shape
    count = heatmaps[_channel_axis(found_layout)] if found_layout and len(heatmaps) == 4 else None
    return PoseModel(
        name=name,
        input_name=input_name,
        inputs=inputs,
        outputs=outputs,
        input_layout=input_layout,
        heads=found,
        heads_by=heads_by,
        layout=found_layout,
        activation=activation,
        activation_by=activation_by,
        output_stride=output_stride,
        output_stride_by=stride_by,
        quantization=_find_quantization(name, producers, constants, found, outputs),
        mean=_three("mean", mean, metadata.get("posepost.mean"), DEFAULT_MEAN),
        std=_three("std", std, metadata.get("posepost.std"), DEFAULT_STD),
        normalisation_by=_normalisation_by(mean, std, metadata),
        keypoints=_keypoint_names(name, metadata.get("posepost.keypoints"), count),
        input_size=size,
        usual_size=usual,
    )


def load_proto(model: str | os.PathLike[str] | bytes) -> Any:
    """The onnx.ModelProto of a file or of bytes, without external data; ValueError when it is none."""
    onnx = _need("onnx")
    name = _name(model)
    if isinstance(model, bytes):
        data = model
    else:
        with open(name, "rb") as file:
            data = file.read()
    decode_error = importlib.import_module("google.protobuf.message").DecodeError
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except decode_error as error:
        raise ValueError(f"{name}: not an ONNX model, or one that is cut short") from error
    if not proto.graph.output:
        raise ValueError(f"{name}: not an ONNX model, or one that is cut short")
    return proto


def signature(proto: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs (without initializers) and outputs of a graph, in its own order."""
    onnx = _need("onnx")
    weights = {value.name for value in proto.graph.initializer}
    inputs = {value.name: _tensor(onnx, value) for value in proto.graph.input if value.name not in weights}
    outputs = {value.name: _tensor(onnx, value) for value in proto.graph.output}
    if any(None in tensor.shape[1:] or not tensor.shape for tensor in outputs.values()):
        for value in _inferred(proto, None).graph.output:
            tensor = _tensor(onnx, value)
            if len(tensor.shape) == 4 and len(outputs[value.name].shape) in (0, 4):
                outputs[value.name] = tensor
    return inputs, outputs


def find_heads(
    name: str, outputs: Mapping[str, Tensor], given: dict[str, str], layout: str | None = None
) -> tuple[dict[str, str], str, str | None]:
    """Which outputs are heatmaps (K channels), offsets (2 K) and displacements (2 (K - 1) each).

    Shapes come first: offsets have twice the channels of heatmaps on the same grid. Names decide between what is left:
    "part", "long", "segment" or "disp" in a name speak against it, "heat" and "offset" for it. `given` names are taken
    as they are.
    Returns (head -> output, how it was found, layout or None).
    """
    _check_given(outputs, given, HEADS)
    named = [outputs[given[head]].shape for head in HEADS[:2] if head in given]
    if len(named) == 2 and any(len(shape) != 4 or (shape[1] is None and shape[3] is None) for shape in named):
        return given, "named by the caller", layout
    by_shape, pairs = _posenet_pairs(outputs, given, layout)
    how = "by shape" if len(pairs) == len(by_shape) else "by shape and name"
    if len(named) == 2:
        how = "named by the caller"
        if not pairs:
            both = [f"{given[head]} {_dims(outputs[given[head]].shape)}" for head in HEADS[:2]]
            raise ValueError(
                f"{name}: heads do not fit: offsets must have twice the channels of heatmaps, got {' and '.join(both)}"
            )
    for head, index in (("heatmaps", 0), ("offsets", 1)):
        if len(pairs) > 1 and head not in given:
            likely = [pair for pair in pairs if ("heat" if head == "heatmaps" else "offset") in pair[index].lower()]
            if likely and len(likely) < len(pairs):
                pairs, how = likely, "by shape and name"
    if not pairs:
        listing = ", ".join(f"{output} {_dims(tensor.shape)}" for output, tensor in outputs.items())
        raise ValueError(
            f"{name}: no heatmaps and offsets among the outputs "
            f"(offsets must have twice the channels of heatmaps; heads= or --heads names them): {listing}"
        )
    if len(pairs) > 1:
        listing = " or ".join(
            f"{heatmaps} {_dims(outputs[heatmaps].shape)} with {offsets} {_dims(outputs[offsets].shape)}"
            for heatmaps, offsets, _ in pairs
        )
        raise ValueError(f"{name}: several outputs may be the heads, name them with heads= (--heads): {listing}")
    heatmaps, offsets, found_layout = pairs[0]
    found = {**given, "heatmaps": heatmaps, "offsets": offsets}
    axis = _channel_axis(found_layout)
    channels = outputs[heatmaps].shape[axis]
    if channels is not None:
        for head, words in (("displacement_fwd", ("fwd", "forward")), ("displacement_bwd", ("bwd", "backward"))):
            matching = [
                output
                for output, tensor in outputs.items()
                if len(tensor.shape) == 4
                and tensor.shape[axis] == 2 * (channels - 1)
                and any(word in output.lower() for word in words)
            ]
            if head not in found and len(matching) == 1:
                found[head] = matching[0]
    return {head: found[head] for head in HEADS if head in found}, how, found_layout


def _posenet_pairs(
    outputs: Mapping[str, Tensor], given: Mapping[str, str], layout: str | None
) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """(heatmaps, offsets, layout) of all outputs whose shapes fit, and of those whose names do not speak against it."""
    by_shape = [
        (heatmaps, offsets, candidate)
        for candidate in ([layout] if layout else LAYOUTS)
        for heatmaps in outputs
        for offsets in outputs
        if given.get("heatmaps", heatmaps) == heatmaps
        and given.get("offsets", offsets) == offsets
        and _fits(outputs[heatmaps].shape, outputs[offsets].shape, candidate)
    ]
    pairs = [
        pair
        for pair in by_shape
        if ("heatmaps" in given or not _speaks_against("heatmaps", pair[0]))
        and ("offsets" in given or not _speaks_against("offsets", pair[1]))
    ]
    return by_shape, pairs


def _find_topdown(
    name: str,
    proto: Any,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    given: Mapping[str, str],
    layout: str | None,
) -> tuple[Recognised, dict[str, tuple[int | None, ...]], tuple[int, int]]:
    """Heatmaps alone or SimCC, the outputs' shapes for an input of the model's usual size, and that size."""
    input_name, input_layout = _find_input(name, inputs)
    declared = inputs[input_name].shape
    sides = _height_width(declared, input_layout)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    preferred = _two(name, metadata.get("posepost.input_size"), TOPDOWN_SIZE)
    usual = (sides[0] or preferred[0], sides[1] or preferred[1])
    shape = (declared[0] or 1, *usual, 3) if input_layout == "NHWC" else (declared[0] or 1, 3, *usual)
    shapes = _shapes_at(proto, (input_name, shape), outputs)

    heatmaps = [] if {*given} & {*TOPDOWN_HEADS["simcc"]} else _heatmap_candidates(shapes, given, layout, usual)
    vectors = [] if "heatmaps" in given else _simcc_candidates(shapes, given, usual)
    by_name = [pair for pair in vectors if _says(pair[0], "x") and _says(pair[1], "y")]
    how = "named by the caller" if given else "by shape"
    if len(vectors) > 1 and by_name:
        vectors, how = by_name, "by shape and name"
    listing = ", ".join(f"{output} {_dims(shapes[output])}" for output in outputs)
    if not heatmaps and not vectors:
        raise ValueError(
            f"{name}: no pose head among the outputs for an input of {usual[1]}x{usual[0]} pixels: heatmaps of K "
            "channels with offsets of 2K (PoseNet), heatmaps alone that are smaller by a whole number, or two (N, K, "
            f"bins) with as many bins a pixel in width and height (SimCC); heads= or --heads names them: {listing}"
        )
    if len({output for output, _ in heatmaps}) + len(vectors) > 1:
        raise ValueError(
            f"{name}: several outputs may be the heads, name them with heads= (--heads), heatmaps or simcc_x and "
            f"simcc_y: {listing}"
        )
    if len(heatmaps) > 1:
        raise ValueError(
            f"{name}: cannot tell the layout of the heatmaps, give layout= (--layout), NCHW or NHWC: {listing}"
        )
    if heatmaps:
        ((output, found_layout),) = heatmaps
        return Recognised("heatmap", {"heatmaps": output}, how, found_layout, outputs[output].dtype), shapes, usual
    ((x, y),) = vectors
    return Recognised("simcc", {"simcc_x": x, "simcc_y": y}, how, None, outputs[x].dtype), shapes, usual


def _shapes_at(
    proto: Any, input_shape: tuple[str, Sequence[int]], outputs: Mapping[str, Tensor]
) -> dict[str, tuple[int | None, ...]]:
    """Shapes of the outputs for an input of this shape: inferred, or else as declared."""
    onnx = _need("onnx")
    inferred = {value.name: _tensor(onnx, value).shape for value in _inferred(proto, input_shape).graph.output}
    shapes = {}
    for name, tensor in outputs.items():
        seen, declared = inferred.get(name, ()), tensor.shape
        if len(seen) == len(declared):
            seen = tuple(known if known is not None else said for known, said in zip(seen, declared))
        shapes[name] = seen or declared
    return shapes


def _heatmap_candidates(
    shapes: Mapping[str, tuple[int | None, ...]],
    given: Mapping[str, str],
    layout: str | None,
    size: tuple[int, int],
) -> list[tuple[str, str]]:
    """Outputs that may be heatmaps, with their layouts. One that the caller names need not fit."""
    named = given.get("heatmaps")
    four = [output for output, shape in shapes.items() if len(shape) == 4 and named in (None, output)]
    layouts = [layout] if layout else LAYOUTS
    fitting = [(o, one) for o in four for one in layouts if _ratios(size, _height_width(shapes[o], one))]
    return fitting or [(output, one) for output in four for one in layouts if named]


def _ratios(size: tuple[int, int], maps: tuple[int | None, int | None]) -> list[int]:
    """The whole numbers that make maps of these sizes from an input, both rounded up or both down."""
    return [
        ratio
        for ratio in range(1, MOST_PER_CELL + 1)
        if maps in (tuple(side // ratio for side in size), tuple(-(-side // ratio) for side in size))
    ]


def _simcc_candidates(
    shapes: Mapping[str, tuple[int | None, ...]], given: Mapping[str, str], size: tuple[int, int]
) -> list[tuple[str, str]]:
    """Pairs of outputs with as many bins a pixel. Those that the caller names need not fit before they run."""
    height, width = size
    three = [output for output, shape in shapes.items() if len(shape) == 3]
    pairs = [
        (x, y)
        for x in three
        for y in three
        if x != y and given.get("simcc_x", x) == x and given.get("simcc_y", y) == y and shapes[x][1] == shapes[y][1]
    ]
    fitting = []
    for x, y in pairs:
        bins_x, bins_y = shapes[x][2], shapes[y][2]
        if bins_x and bins_y and bins_x * height == bins_y * width and bins_x >= width:
            fitting.append((x, y))
    return fitting or (pairs if len(given) == 2 else [])


def _says(name: str, axis: str) -> bool:
    """Whether a name, such as simcc_x, has this letter by itself."""
    return re.search(rf"(^|[^a-z]){axis}($|[^a-z])", name.lower()) is not None


def find_activation(producers: Mapping[str, Any], constants: set[str], output: str) -> tuple[str | None, str]:
    """Whether an output of a graph is logits ("sigmoid"), scores (None) or "unknown", and how that is known."""
    verdicts: dict[str, str | None] = {}
    waiting, seen = [(output, False)], set()
    while waiting:
        value, scaled = waiting.pop()
        if (value, scaled) in seen:
            continue
        seen.add((value, scaled))
        node = producers.get(value)
        if node is None:
            verdicts[f"comes from {value!r}, which no node makes"] = "unknown"
        elif node.op_type in _GIVES_LOGITS:
            verdicts[f"made by {node.op_type}"] = "sigmoid"
        elif node.op_type in _GIVES_SCORES:
            verdicts[f"passed {node.op_type}" + ", then arithmetic" * scaled] = "unknown" if scaled else None
        elif node.op_type in _TRANSPARENT:
            sources = node.input if node.op_type == "Concat" else node.input[:1]
            waiting.extend((source, scaled) for source in sources)
        elif node.op_type in _KEEPS_LOGITS and (operand := _only_operand(node, producers, constants)):
            waiting.append((operand, True))
        else:
            verdicts[f"made by {node.op_type}"] = "unknown"
    why = " and ".join(sorted(verdicts))
    found = set(verdicts.values())
    return (found.pop() if len(found) == 1 else "unknown"), why


def stride_of(input_hw: Sequence[int | None], map_hw: Sequence[int | None]) -> int | None:
    """The one power of two s with ceil(input / s) == map in both axes, or None."""
    sizes = [*input_hw, *map_hw]
    if any(not size for size in sizes):
        return None
    height, width, rows, columns = cast("list[int]", sizes)
    fitting = [s for s in (1 << n for n in range(12)) if -(-height // s) == rows and -(-width // s) == columns]
    return fitting[0] if len(fitting) == 1 else None


def input_size(model: PoseModel | TopDownModel, size: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) to run a model at: `size` where the model takes it, else its usual one."""
    if size is None:
        return model.usual_size
    if any(fixed not in (None, wanted) for fixed, wanted in zip(model.input_size, size)):
        takes = "x".join(str(side or "any") for side in model.input_size)
        raise ValueError(f"size must be what the model takes, {takes}, got {size[0]}x{size[1]}")
    if min(size) < 1:
        raise ValueError(f"size must be positive, got {size[0]}x{size[1]}")
    return size


def several_people_problem(model: PoseModel, skeleton: Sequence[tuple[int, int]] | None = None) -> str | None:
    """Why a model's outputs cannot be decoded into several people with that skeleton; None where they can."""
    missing = [head for head in HEADS if head not in model.heads]
    if missing:
        listing = ", ".join(f"{name} {_dims(tensor.shape)}" for name, tensor in model.outputs.items())
        return (
            f"{model.name}: no {' and '.join(missing)} among the outputs, which several people need "
            f"(heads= or --heads names them): {listing}"
        )
    if skeleton is None and model.keypoints and len(model.keypoints) != len(COCO_KEYPOINTS):
        return (
            f"{model.name}: several people need PoseNet's {len(COCO_KEYPOINTS)} keypoints, got {len(model.keypoints)}; "
            "skeleton= (--skeleton) joins others"
        )
    for head in HEADS:
        dtype = model.outputs[model.heads[head]].dtype
        if dtype in ("uint8", "int8") and head not in model.quantization:
            return f"{model.name}: cannot read the scale of the {dtype} output {model.heads[head]}"
    return None


def choose_device(requested: Sequence[Any] | None, available: Sequence[str], cupy_problem: Any) -> tuple[str, str]:
    """("cuda" or "cpu", why): CUDA needs the provider, asked for or by default, and CuPy with a device.

    cupy_problem: called only when the rest is there; returns None or what is wrong.
    """
    if requested is not None and "CUDAExecutionProvider" not in [_provider_name(entry) for entry in requested]:
        return "cpu", "providers= names no CUDA provider"
    if "CUDAExecutionProvider" not in available:
        return "cpu", "this onnxruntime has no CUDA provider"
    problem = cupy_problem()
    return ("cpu", problem) if problem else ("cuda", "onnxruntime and CuPy on one stream")


NVIDIA_PROVIDERS: dict[str, dict[str, str]] = {
    "CUDAExecutionProvider": {"cudnn_conv_algo_search": "HEURISTIC"},
    "TensorrtExecutionProvider": {},
    "NvTensorRTRTXExecutionProvider": {},
}
"""What takes a device and a stream, and what else we ask of it where the caller does not."""


def provider_list(requested: Sequence[Any] | None, device: str, device_id: int, stream: int | None) -> list[Any]:
    """Providers for InferenceSession; those of NVIDIA are told our device and stream, on which we put the inputs: on a
    stream of its own TensorRT does not wait for them (microsoft/onnxruntime#32673). cuDNN's algorithms are chosen by
    its heuristic, where onnxruntime's default tries all of them for each new size of image."""
    if device != "cuda":
        return list(requested) if requested is not None else ["CPUExecutionProvider"]
    ours = {"device_id": str(device_id), "user_compute_stream": str(stream)}
    entries = list(requested) if requested is not None else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return [
        (name, {**NVIDIA_PROVIDERS[name], **(entry[1] if isinstance(entry, tuple) else {}), **ours})
        if (name := _provider_name(entry)) in NVIDIA_PROVIDERS
        else entry
        for entry in entries
    ]


def describe(model: PoseModel | TopDownModel) -> str:
    """A model's inputs, outputs and what was recognised, one fact a line."""
    size = " x ".join(str(side or "any") for side in model.input_size)
    usual = " x ".join(str(side) for side in model.usual_size)
    keypoints = f"{len(model.keypoints)}: {', '.join(model.keypoints)}" if model.keypoints else "unknown until it runs"
    lines = [
        ("model", model.name),
        *(("input", f"{name} {tensor.dtype} {_dims(tensor.shape)}") for name, tensor in model.inputs.items()),
        *(("output", f"{name} {tensor.dtype} {_dims(tensor.shape)}") for name, tensor in model.outputs.items()),
        *(_posenet_lines(model) if isinstance(model, PoseModel) else _topdown_lines(model)),
        ("input is", f"(pixel - {_numbers(model.mean)}) / {_numbers(model.std)}, RGB ({model.normalisation_by})"),
        ("keypoints", keypoints),
    ]
    where = next(number for number, (key, _) in enumerate(lines) if key == "layout")
    lines.insert(where + 1, ("size", f"{size} (height x width)" + f", usually {usual}" * (None in model.input_size)))
    if model.quantization:
        scales = [f"{head}: scale {scale:g}, zero {zero}" for head, (scale, zero) in model.quantization.items()]
        lines.append(("quantised", ", ".join(scales)))
    return "\n".join(f"{key:<17}{value}" for key, value in lines)


def _posenet_lines(model: PoseModel) -> list[tuple[str, str]]:
    stride = "unknown" if model.output_stride is None else str(model.output_stride)
    activation = {"sigmoid": "logits", None: "scores", "unknown": "unknown"}[model.activation]
    return [
        *((head, model.heads.get(head, "not recognised (not needed for one person)")) for head in HEADS),
        ("found", model.heads_by),
        ("layout", f"input {model.input_layout}, outputs {model.layout or 'known when it runs'}"),
        ("stride", f"{stride} ({model.output_stride_by})"),
        ("heatmaps are", f"{activation} ({model.activation_by})"),
    ]


def _topdown_lines(model: TopDownModel) -> list[tuple[str, str]]:
    first, second = (str(side or "any") for side in model.sizes)
    ratio = "known when it runs" if model.ratio is None else f"{model.ratio:g}"
    if model.kind == "heatmap":
        head, layout = "heatmaps", f"input {model.input_layout}, outputs {model.layout}"
        sizes = ("maps", f"{first} x {second} (height x width), input pixels a cell: {ratio}")
    else:
        head, layout = "SimCC", f"input {model.input_layout}"
        sizes = ("bins", f"{first} along x, {second} along y, split ratio: {ratio}")
    return [
        ("head", f"{head}, one person a crop"),
        *model.heads.items(),
        ("found", model.heads_by),
        ("layout", layout),
        sizes,
        ("preset", f"{model.preset} ({model.preset_by})"),
        ("outputs are", f"{'scores' if model.activation is None else 'logits'} ({model.activation_by})"),
    ]


def _name(model: str | os.PathLike[str] | bytes) -> str:
    return "model" if isinstance(model, bytes) else os.fspath(model)


def _check_choices(layout: str | None, activation: str | None) -> None:
    if layout not in (None, *LAYOUTS):
        raise ValueError(f'layout must be "NCHW", "NHWC" or None, got {layout!r}')
    if activation not in ("auto", "sigmoid", None):
        raise ValueError(f'activation must be "auto", "sigmoid" or None, got {activation!r}')


def _check_given(outputs: Mapping[str, Tensor], given: Mapping[str, str], heads: Sequence[str]) -> None:
    for head, output in given.items():
        if head not in heads:
            raise ValueError(f"heads must have keys among {', '.join(heads)}, got {head!r}")
        if output not in outputs:
            raise ValueError(f"heads[{head!r}] must be one of the outputs {', '.join(outputs)}, got {output!r}")


def _check_boxes(boxes: npt.NDArray[np.float64], image_size: tuple[int, int]) -> None:
    width, height = image_size
    for number, box in enumerate(boxes):
        x0, y0, x1, y1 = box
        got = f"got ({', '.join(f'{value:g}' for value in box)})"
        if not (np.isfinite(box).all() and x0 < x1 and y0 < y1):
            raise ValueError(f"boxes[{number}] must be finite x0, y0, x1, y1 with x0 < x1 and y0 < y1, {got}")
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            raise ValueError(f"boxes[{number}] must meet the image of {width}x{height} pixels, {got}")


def _filled_up(xp: Any, rows: Any, count: int) -> Any:
    """The rows with rows of zeros behind them, `count` in all; the rows themselves where there are as many."""
    if len(rows) == count:
        return rows
    whole = xp.zeros((count, *rows.shape[1:]), rows.dtype)
    whole[: len(rows)] = rows
    return whole


def _keypoints_in(shape: Sequence[int | None], layout: str | None, preset: str) -> int:
    channels = shape[_channel_axis(layout)]
    assert channels is not None
    return channels // 3 if preset == "mmpose_udp_combined" else channels


def _normalisation_by(mean: Any, std: Any, metadata: Mapping[str, str]) -> str:
    if mean is not None or std is not None:
        return "given"
    return "metadata" if "posepost.mean" in metadata or "posepost.std" in metadata else "default"


def _need(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f'running ONNX models needs {package}: pip install "posepost[ort]"') from error


def _cupy_problem() -> str | None:
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        return 'CuPy is not installed: pip install "posepost[cuda13]" or "posepost[cuda12]"'
    try:
        return None if cupy.cuda.runtime.getDeviceCount() else "CuPy sees no CUDA device"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy sees no CUDA device ({_one_line(error)})"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _provider_name(entry: Any) -> str:
    return str(entry[0] if isinstance(entry, tuple) else entry)


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(array.shape() if callable(array.shape) else array.shape)


def _dims(shape: Sequence[int | None]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def _numbers(values: npt.NDArray[np.float32]) -> str:
    numbers = [f"{value:g}" for value in values]
    return numbers[0] if len(set(numbers)) == 1 else f"({', '.join(numbers)})"


def _channel_axis(layout: str | None) -> int:
    return 3 if layout == "NHWC" else 1


def _height_width(shape: Sequence[Any], layout: str) -> tuple[Any, Any]:
    return (shape[1], shape[2]) if layout == "NHWC" else (shape[2], shape[3])


def _fits(heatmaps: Sequence[int | None], offsets: Sequence[int | None], layout: str) -> bool:
    if len(heatmaps) != 4 or len(offsets) != 4:
        return False
    axis = _channel_axis(layout)
    channels = heatmaps[axis]
    same_grid = all(h is None or o is None or h == o for a, (h, o) in enumerate(zip(heatmaps, offsets)) if a != axis)
    return channels is not None and offsets[axis] == 2 * channels and same_grid


def _speaks_against(head: str, output: str) -> bool:
    other = "offset" if head == "heatmaps" else "heat"
    return any(word in output.lower() for word in ("part", "long", "segment", "disp", other))


def _tensor(onnx: Any, value: Any) -> Tensor:
    kind = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    dims = tuple(int(dim.dim_value) if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    return Tensor({"float": "float32", "double": "float64"}.get(dtype, dtype), dims)


def _find_input(name: str, inputs: Mapping[str, Tensor]) -> tuple[str, str]:
    listing = ", ".join(f"{key} {_dims(tensor.shape)}" for key, tensor in inputs.items()) or "none"
    if len(inputs) != 1:
        raise ValueError(f"{name}: the model must have one input, the image, got {listing}")
    ((key, tensor),) = inputs.items()
    layouts = [layout for layout in LAYOUTS if len(tensor.shape) == 4 and tensor.shape[_channel_axis(layout)] == 3]
    if not layouts:
        raise ValueError(f"{name}: the input must be (N, 3, H, W) or (N, H, W, 3), got {listing}")
    if tensor.dtype not in ("float32", "float16", "uint8"):
        raise ValueError(f"{name}: the input must have dtype float32, float16 or uint8, got {tensor.dtype}")
    return key, layouts[0]


def _inferred(proto: Any, input_shape: tuple[str, Sequence[int]] | None) -> Any:
    """A copy of the model with output shapes inferred, at the given input shape when there is one."""
    onnx = _need("onnx")
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    if input_shape is not None:
        name, shape = input_shape
        (value,) = (value for value in copy.graph.input if value.name == name)
        for dim, size in zip(value.type.tensor_type.shape.dim, shape):
            dim.dim_value = size
        for output in copy.graph.output:
            output.type.tensor_type.ClearField("shape")
        del copy.graph.value_info[:]
    try:
        return onnx.shape_inference.infer_shapes(copy)
    except (ValueError, RuntimeError):  # more than 2 GiB, or a node that inference does not know: no shapes then
        return copy


def _find_stride(
    proto: Any, input_name: str, size: tuple[int, int], heatmaps: str, input_layout: str, layout: str | None
) -> tuple[int | None, str]:
    if layout is None:
        return None, "known when it runs"
    height, width = size
    shape = (1, height, width, 3) if input_layout == "NHWC" else (1, 3, height, width)
    outputs = {value.name: value for value in _inferred(proto, (input_name, shape)).graph.output}
    inferred = _tensor(_need("onnx"), outputs[heatmaps]).shape
    declared = _tensor(_need("onnx"), {value.name: value for value in proto.graph.output}[heatmaps]).shape
    for candidate in (inferred, declared):
        if len(candidate) == 4:
            rows, columns = _height_width(candidate, layout)
            stride = stride_of((height, width), (rows, columns))
            if stride is not None:
                return stride, f"{height}x{width} becomes {rows}x{columns}"
    return None, "known when it runs"


def _only_operand(node: Any, producers: Mapping[str, Any], constants: set[str]) -> str | None:
    """The one operand that is not a constant; it must come first where order matters."""

    def constant(value: str) -> bool:
        return value in constants or (value in producers and producers[value].op_type == "Constant")

    values = [value for value in node.input if not constant(value)]
    in_order = node.op_type in ("Add", "Mul") or values[:1] == list(node.input[:1])
    return values[0] if len(values) == 1 and in_order else None


def _find_quantization(
    name: str,
    producers: Mapping[str, Any],
    constants: Mapping[str, Any],
    heads: Mapping[str, str],
    outputs: Mapping[str, Tensor],
) -> dict[str, tuple[float, int]]:
    """Scale and zero point of 8-bit heads, from the QuantizeLinear node that makes them.

    A displacement whose scale cannot be read is left out: one person is decoded without it.
    """
    onnx = _need("onnx")
    found = {}
    for head in heads:
        if outputs[heads[head]].dtype not in ("uint8", "int8"):
            continue
        node = producers.get(heads[head])
        while node is not None and node.op_type in ("Transpose", "Identity", "Reshape"):
            node = producers.get(node.input[0])
        quantiser = node if node is not None and node.op_type == "QuantizeLinear" else None
        names = [value for value in quantiser.input[1:3] if value] if quantiser else []
        if not names or any(value not in constants or constants[value].dims not in ([], [1]) for value in names):
            if head not in HEADS[:2]:
                continue
            raise ValueError(f"{name}: cannot read the scale of the {outputs[heads[head]].dtype} output {heads[head]}")
        scale, *zero = (onnx.numpy_helper.to_array(constants[value]).reshape(()) for value in names)
        found[head] = (float(scale), int(zero[0]) if zero else 0)
    return found


def _three(
    what: str, given: float | Sequence[float] | None, metadata: str | None, default: float | Sequence[float]
) -> npt.NDArray[np.float32]:
    value: Any = given
    if value is None and metadata is not None:
        try:
            value = [float(part) for part in metadata.strip("[]() ").split(",")]
        except ValueError:
            raise ValueError(f"posepost.{what} must be one number or three, got {metadata!r}") from None
    numbers = np.asarray(default if value is None else value, np.float32).reshape(-1)
    if numbers.size not in (1, 3) or not np.isfinite(numbers).all():
        raise ValueError(f"{what} must be one finite number or three, got {value}")
    if what == "std" and not numbers.all():
        raise ValueError(f"std must not be zero, got {value}")
    return np.broadcast_to(numbers, (3,)).copy()


def _two(name: str, metadata: str | None, default: tuple[int, int]) -> tuple[int, int]:
    if metadata is None:
        return default
    parts = [part.strip() for part in metadata.strip("[]() ").split(",")]
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"{name}: posepost.input_size must be height,width, got {metadata!r}")
    return int(parts[0]), int(parts[1])


def _keypoint_names(name: str, metadata: str | None, count: int | None) -> tuple[str, ...]:
    if metadata is not None:
        names = tuple(part.strip(" \"'[]") for part in metadata.split(","))
        if count is not None and len(names) != count:
            raise ValueError(f"{name}: posepost.keypoints must name {count} keypoints, got {len(names)}")
        return names
    if count == len(COCO_KEYPOINTS):
        return COCO_KEYPOINTS
    return tuple(f"keypoint {k}" for k in range(count or 0))
