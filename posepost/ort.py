"""ONNX models of the PoseNet kind through onnxruntime, with the heatmaps left on the device.

`PoseSession` loads a model, finds its heads, runs it and decodes what it gives. `read_model` only reads the graph.
Needs the packages onnx and onnxruntime (`pip install "posepost[ort]"`, on a machine with a GPU `"posepost[ort-gpu]"`).

Metadata of a model (`metadata_props`) that is honoured: `posepost.mean`, `posepost.std` (one number or R,G,B, of pixels
0..255), `posepost.output_stride`, `posepost.input_size` (height,width to run at, where the model takes any),
`posepost.keypoints` (names, separated by commas).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from posepost import Keypoints, Poses, decode_posenet, decode_posenet_multi
from posepost._image import letterbox
from posepost.draw import COCO_KEYPOINTS

DEFAULT_SIZE = (353, 481)
DEFAULT_MEAN = DEFAULT_STD = 127.5
HEADS = ("heatmaps", "offsets", "displacement_fwd", "displacement_bwd")
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


class PoseSession:
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
        onnxruntime = _need("onnxruntime")
        self.model = read_model(
            model, heads=heads, output_stride=output_stride, layout=layout, activation=activation, mean=mean, std=std
        )
        if self.model.activation == "unknown":
            raise ValueError(
                f"{self.model.name}: cannot tell whether heatmaps are logits or scores ({self.model.activation_by}); "
                'give activation="sigmoid" for logits or activation=None for scores'
            )
        self.skeleton = skeleton
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
                warnings.warn(f"PoseSession runs on the CPU: {self.device_reason}", RuntimeWarning, stacklevel=2)

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
        dtype = np.dtype(self.model.inputs[self.model.input_name].dtype)
        if dtype != np.uint8:
            pixels = ((pixels - self.model.mean) / self.model.std).astype(dtype)
        if self.model.input_layout == "NCHW":
            pixels = pixels.transpose(2, 0, 1)
        return np.ascontiguousarray(pixels[None]), transform

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
        names = [self.model.heads[head] for head in heads]
        if self.device == "cpu":
            with self._failing():
                return tuple(self._session.run(names, {self.model.input_name: images}, self._run_options))
        with self.stream:
            on_host = isinstance(images, np.ndarray) or not hasattr(images, "__dlpack__")
            array = self._cupy.asarray(images) if on_host else self._cupy.from_dlpack(images)
            if not array.flags.c_contiguous:
                raise ValueError("images must be C-contiguous on the device; make a contiguous copy")
            binding = self._session.io_binding()
            binding.bind_input(
                self.model.input_name, "cuda", self._device_id, array.dtype.type, array.shape, array.data.ptr
            )
            for name in names:
                binding.bind_output(name, "cuda", self._device_id)
            with self._failing():
                self._session.run_with_iobinding(binding, self._run_options)
            return tuple(binding.get_outputs())

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
            "quantization": {head: self.model.quantization[head] for head in heads if head in self.model.quantization}
            or None,
            "stream": self.stream,
        }

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

    def _check(self, images: Any) -> None:
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
        if len(shape) != len(want.shape) or any(w not in (None, g) for w, g in zip(want.shape, shape)):
            raise ValueError(f"images must have shape {_dims(want.shape)}, got {_dims(shape)}")

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
    if layout not in (None, *LAYOUTS):
        raise ValueError(f'layout must be "NCHW", "NHWC" or None, got {layout!r}')
    if activation not in ("auto", "sigmoid", None):
        raise ValueError(f'activation must be "auto", "sigmoid" or None, got {activation!r}')
    name = "model" if isinstance(model, bytes) else os.fspath(model)
    proto = load_proto(model)
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
    preferred = _two(name, metadata.get("posepost.input_size"))
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
    if mean is None and std is None and ("posepost.mean" in metadata or "posepost.std" in metadata):
        normalisation_by = "metadata"
    else:
        normalisation_by = "default" if mean is None and std is None else "given"
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
        normalisation_by=normalisation_by,
        keypoints=_keypoint_names(name, metadata.get("posepost.keypoints"), count),
        input_size=size,
        usual_size=usual,
    )


def load_proto(model: str | os.PathLike[str] | bytes) -> Any:
    """The onnx.ModelProto of a file or of bytes, without external data; ValueError when it is none."""
    onnx = _need("onnx")
    if isinstance(model, bytes):
        name, data = "model", model
    else:
        name = os.fspath(model)
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
    for head, output in given.items():
        if head not in HEADS:
            raise ValueError(f"heads must have keys among {', '.join(HEADS)}, got {head!r}")
        if output not in outputs:
            raise ValueError(f"heads[{head!r}] must be one of the outputs {', '.join(outputs)}, got {output!r}")
    named = [outputs[given[head]].shape for head in HEADS[:2] if head in given]
    if len(named) == 2 and any(len(shape) != 4 or (shape[1] is None and shape[3] is None) for shape in named):
        return given, "named by the caller", layout
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


def input_size(model: PoseModel, size: tuple[int, int] | None) -> tuple[int, int]:
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


def provider_list(requested: Sequence[Any] | None, device: str, device_id: int, stream: int | None) -> list[Any]:
    """Providers for InferenceSession; the CUDA one is told our device and stream."""
    if device != "cuda":
        return list(requested) if requested is not None else ["CPUExecutionProvider"]
    ours = {"device_id": str(device_id), "user_compute_stream": str(stream)}
    entries = list(requested) if requested is not None else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return [
        ("CUDAExecutionProvider", {**(entry[1] if isinstance(entry, tuple) else {}), **ours})
        if _provider_name(entry) == "CUDAExecutionProvider"
        else entry
        for entry in entries
    ]


def describe(model: PoseModel) -> str:
    """A model's inputs, outputs and what was recognised, one fact a line."""
    size = " x ".join(str(side or "any") for side in model.input_size)
    usual = " x ".join(str(side) for side in model.usual_size)
    stride = "unknown" if model.output_stride is None else str(model.output_stride)
    activation = {"sigmoid": "logits", None: "scores", "unknown": "unknown"}[model.activation]
    keypoints = f"{len(model.keypoints)}: {', '.join(model.keypoints)}" if model.keypoints else "unknown until it runs"
    lines = [
        ("model", model.name),
        *(("input", f"{name} {tensor.dtype} {_dims(tensor.shape)}") for name, tensor in model.inputs.items()),
        *(("output", f"{name} {tensor.dtype} {_dims(tensor.shape)}") for name, tensor in model.outputs.items()),
        *((head, model.heads.get(head, "not recognised (not needed for one person)")) for head in HEADS),
        ("found", model.heads_by),
        ("layout", f"input {model.input_layout}, outputs {model.layout or 'known when it runs'}"),
        ("size", f"{size} (height x width)" + f", usually {usual}" * (None in model.input_size)),
        ("stride", f"{stride} ({model.output_stride_by})"),
        ("heatmaps are", f"{activation} ({model.activation_by})"),
        ("input is", f"(pixel - {_numbers(model.mean)}) / {_numbers(model.std)}, RGB ({model.normalisation_by})"),
        ("keypoints", keypoints),
    ]
    if model.quantization:
        scales = [f"{head}: scale {scale:g}, zero {zero}" for head, (scale, zero) in model.quantization.items()]
        lines.append(("quantised", ", ".join(scales)))
    return "\n".join(f"{key:<17}{value}" for key, value in lines)


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
    what: str, given: float | Sequence[float] | None, metadata: str | None, default: float
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


def _two(name: str, metadata: str | None) -> tuple[int, int]:
    if metadata is None:
        return DEFAULT_SIZE
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
