"""Models that were recognized: all that a session must know of one before it runs."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from posepost import _check, _kernels
from posepost._rules.heatmap import PRESETS as HEATMAP_PRESETS
from posepost._rules.simcc import PRESETS as SIMCC_PRESETS
from posepost.schemes import SCHEMES, Scheme, SchemeLike

from ._extra_inputs import extra_inputs
from ._families import ratios
from ._graph import Graph, find_image, read_graph
from ._heads import Recognized, recognize_graph
from ._input import Feed, read_feed
from ._metadata import find_keypoints, stated_stride
from ._nodes import find_activation, find_quantization
from ._posenet_heads import HEADS, Evidence
from ._shapes import find_stride, usual_size
from ._source import ModelLike
from ._tensors import Tensor, channel_axis, listing, width_height
from ._topdown_heads import TOPDOWN_HEADS

DEFAULT_SIZE = (481, 353)
DEFAULT_MEAN = DEFAULT_STD = 127.5
RESNET_MEAN, RESNET_STD = (123.15, 115.9, 103.06), 1  # npm @tensorflow-models/posenet 2.2.2 dist/resnet.js
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
PRESETS = {"heatmap": HEATMAP_PRESETS, "simcc": SIMCC_PRESETS}
MOST_PIXELS = 1 << 26  # of an input, 805 MB in float32: more is taken for a slip
UDP_KEYPOINTS = 17  # of the public models with UDP's offsets
DEFAULT_PRESETS = {"heatmap": "mmpose_msra", "simcc": "rtmpose"}


@dataclass(frozen=True, eq=False, kw_only=True)  # it holds arrays, which == does not compare as one
class Model:
    """What was read of any model. `*_by` tell how it is known."""

    name: str
    input_name: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    input_layout: str
    heads: dict[str, str]  # head -> output
    heads_by: str
    evidence: Evidence
    layout: str | None  # of maps; None: known when it runs, and for SimCC
    activation: str | None  # "sigmoid": logits; None: already scores; "unknown", in PoseNet models alone
    activation_by: str
    quantization: dict[str, tuple[float, int]]
    feed: Feed  # how pixels become its input
    extra_inputs: dict[str, npt.NDArray[Any]]  # values of inputs besides the image, as far as they were given
    scheme: Scheme | None  # what the keypoints are; None: not known
    keypoints: tuple[str, ...]  # names; "keypoint 0", ... where they are not known, none where K is not
    keypoints_by: str
    keypoint_count: int | None  # None: known when it runs
    input_size: tuple[int | None, int | None]  # width, height of the input; None where the model takes any
    usual_size: tuple[int, int]  # to run at when the caller names no size

    @property
    def mean(self) -> npt.NDArray[np.float32]:
        """Of each channel that the network expects, in its order, in pixel values 0..255."""
        return self.feed.mean

    @property
    def std(self) -> npt.NDArray[np.float32]:
        return self.feed.std

    @property
    def normalization_by(self) -> str:
        return self.feed.by

    @property
    def batch(self) -> int | None:
        """How many images it takes in a run; None: any number."""
        return self.inputs[self.input_name].shape[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class PoseModel(Model):
    """What `read_model` saw in a graph with PoseNet heads."""

    output_stride: int | None
    output_stride_by: str


@dataclass(frozen=True, eq=False, kw_only=True)
class TopDownModel(Model):
    """What `read_topdown` saw in a graph with heatmaps or SimCC."""

    kind: str  # "heatmap" or "simcc"
    sizes: tuple[int | None, int | None]  # heatmaps: width, height; SimCC: bins along x, along y
    ratio: float | None  # heatmaps: input pixels a cell; SimCC: bins an input pixel; None: known when it runs
    preset: str
    preset_by: str


def read_model(
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
) -> PoseModel:
    """Read the graph of an ONNX model without running it. Arguments and errors as for `PoseSession`.

    A fact that the graph does not tell is left open here: activation "unknown", output_stride None.
    """
    _check_choices(layout, activation)
    graph = read_graph(model)
    seen = recognize_graph(graph, heads, layout, None, "posenet")
    found, found_layout = seen.heads, seen.layout
    if activation == "auto":
        activation, activation_by = find_activation(graph.producers, set(graph.constants), found["heatmaps"])
    else:
        activation_by = "given"
    usual = usual_size(graph, DEFAULT_SIZE)
    stride_by = "given"
    if output_stride is None:
        output_stride, stride_by = stated_stride(graph.name, graph.metadata), "metadata"
    if output_stride is None:
        output_stride, stride_by = find_stride(graph, usual, found["heatmaps"], found_layout)
    resnet = any("resnet" in output.lower() for output in graph.outputs)
    usual_mean, usual_std = (RESNET_MEAN, RESNET_STD) if resnet else (DEFAULT_MEAN, DEFAULT_STD)
    heatmaps = seen.shapes[found["heatmaps"]]
    count = heatmaps[channel_axis(found_layout)] if found_layout and len(heatmaps) == 4 else None
    return PoseModel(
        heads=found,
        heads_by=seen.by,
        evidence=seen.evidence,
        layout=found_layout,
        activation=activation,
        activation_by=activation_by,
        output_stride=output_stride,
        output_stride_by=stride_by,
        usual_size=usual,
        feed=read_feed(graph, (mean, usual_mean), (std, usual_std), input_channels),
        extra_inputs=extra_inputs(graph, inputs),
        **_read(graph, found, keypoints, count, True),
    )


def read_topdown(
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
) -> TopDownModel:
    """Read the graph of a top-down ONNX model without running it. Arguments and errors as for `TopDownSession`."""
    _check_choices(layout, activation)
    graph = read_graph(model)
    found = recognize_graph(graph, heads, layout, preset, "topdown")
    kind, shapes, usual = found.kind, found.shapes, found.size
    if preset is not None:
        _check.choice(preset, "preset", tuple(PRESETS[kind]))
    chosen = preset or DEFAULT_PRESETS[kind]
    _check_dtypes(graph, found)
    first, *second = (shapes[found.heads[head]] for head in TOPDOWN_HEADS[kind])
    count: int | None
    sizes: tuple[int | None, int | None]
    ratio: float | None
    if kind == "heatmap":
        count = _heatmap_keypoints(graph.name, first, found.layout, preset, chosen)
        sizes = width_height(first, found.layout or "NCHW")
        ratio = next(iter(ratios(usual, sizes)), None)
    else:
        count = first[1]
        sizes = first[2], second[0][2]
        ratio = sizes[0] / usual[0] if sizes[0] else None
    if activation == "auto":
        activation, activation_by = PRESETS[kind][chosen].get("activation"), f"preset {chosen}"
        if activation is not None:
            output = found.heads[TOPDOWN_HEADS[kind][0]]
            seen, why = find_activation(graph.producers, set(graph.constants), output)
            activation, activation_by = (None, why) if seen is None else (activation, activation_by)
    else:
        activation_by = "given"
    return TopDownModel(
        kind=kind,
        heads=found.heads,
        heads_by=found.by,
        evidence=found.evidence,
        layout=found.layout,
        sizes=sizes,
        ratio=ratio,
        preset=chosen,
        preset_by="default" if preset is None else "given",
        activation=activation,
        activation_by=activation_by,
        usual_size=usual,
        feed=read_feed(graph, (mean, IMAGENET_MEAN), (std, IMAGENET_STD), input_channels),
        extra_inputs=extra_inputs(graph, inputs),
        **_read(graph, found.heads, keypoints, count, False),
    )


def _read(graph: Graph, heads: Mapping[str, str], keypoints: Any, count: int | None, posenet: bool) -> dict[str, Any]:
    """The fields that are read alike of all models."""
    image = find_image(graph)
    naming = find_keypoints(graph.name, keypoints, graph.metadata, count, posenet)
    return {
        "name": graph.name,
        "input_name": image.name,
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "input_layout": image.layout,
        "quantization": find_quantization(graph, heads, required=HEADS[:2]),
        "scheme": naming.scheme,
        "keypoints": naming.names,
        "keypoints_by": naming.by,
        "keypoint_count": count,
        "input_size": width_height(graph.inputs[image.name].shape, image.layout),
    }


def input_size(model: Model, size: tuple[int, int] | None) -> tuple[int, int]:
    """(width, height) to run a model at: `size` where the model takes it, else its usual one."""
    if size is None:
        return model.usual_size
    try:
        width, height = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        raise TypeError(f"size must be two whole numbers, width and height, got {size!r}") from None
    if any(fixed not in (None, wanted) for fixed, wanted in zip(model.input_size, (width, height))):
        takes = "x".join(str(side or "any") for side in model.input_size)
        raise ValueError(f"size must be what the model takes, {takes}, got {width}x{height}")
    if min(width, height) < 1:
        raise ValueError(f"size must be positive, got {width}x{height}")
    if width * height > MOST_PIXELS:
        raise ValueError(f"size must have at most {MOST_PIXELS} pixels, got {width}x{height}")
    return width, height


def people_to_find(model: PoseModel, skeleton: Sequence[tuple[int, int]] | None = None) -> str:
    """ "all" where a model has the heads for it, else "one". ValueError where displacements are there, but in doubt."""
    if model.evidence.undirected:
        first, second = model.evidence.undirected
        raise ValueError(
            f'people must be "one", or heads= must name displacement_fwd and displacement_bwd: {first} and {second} of '
            f"{model.name} are these, but nothing tells which is which"
        )
    problem = multi_person_problem(model, skeleton)
    if problem and {*HEADS} <= {*model.heads}:
        raise ValueError(f'{problem}; people="one" finds one')
    return "one" if problem else "all"


def multi_person_problem(model: PoseModel, skeleton: Sequence[tuple[int, int]] | None = None) -> str | None:
    """Why a model's outputs cannot be decoded into multi-person poses with that skeleton; None where they can."""
    missing = [head for head in HEADS if head not in model.heads]
    if missing:
        shapes = {name: tensor.shape for name, tensor in model.outputs.items()}
        return (
            f"{model.name}: no {' and '.join(missing)} among the outputs, which several people need "
            f"(heads= names them): {listing(shapes)}"
        )
    usual = SCHEMES["coco"]
    if skeleton is None and model.keypoints and len(model.keypoints) != len(usual.keypoints):
        return (
            f"{model.name}: several people need PoseNet's {len(usual.keypoints)} keypoints, got "
            f"{len(model.keypoints)}; skeleton= joins others"
        )
    if skeleton is None and model.scheme is not None and model.scheme.name not in ("", usual.name):
        return (
            f"{model.name}: several people need PoseNet's keypoints, which are COCO's, got {model.scheme.name}'s; "
            "skeleton= joins others"
        )
    for head in HEADS:
        dtype = model.outputs[model.heads[head]].dtype
        if dtype in ("uint8", "int8") and head not in model.quantization:
            return f"{model.name}: cannot read the scale of the {dtype} output {model.heads[head]}"
    return None


def keypoints_in(channels: int, preset: str) -> int:
    """How many keypoints heatmaps of so many channels hold."""
    return channels // 3 if preset == "mmpose_udp_combined" else channels


def _heatmap_keypoints(
    name: str, shape: Sequence[int | None], layout: str | None, given: str | None, preset: str
) -> int | None:
    """`keypoints_in`, where the preset fits the channels and was given if they leave a doubt; None: not known."""
    channels = shape[channel_axis(layout)]
    if given is None and channels == 3 * UDP_KEYPOINTS:
        raise ValueError(
            f"{name}: {channels} channels may be {channels} keypoints or {UDP_KEYPOINTS} with offsets; give "
            'preset="mmpose_udp_combined" for offsets, or another preset for '
            f"{channels} keypoints"
        )
    if preset == "mmpose_udp_combined" and channels is not None and channels % 3:
        raise ValueError(
            f"{name}: heatmaps must have three channels a keypoint (class, x, y) for mmpose_udp_combined, "
            f"got {channels}"
        )
    return None if channels is None else keypoints_in(channels, preset)


def _check_choices(layout: str | None, activation: str | None) -> None:
    _check.layout(layout)
    if activation not in ("auto", "sigmoid", None):
        raise ValueError(f'activation must be "auto", "sigmoid" or None, got {activation!r}')


def _check_dtypes(graph: Graph, found: Recognized) -> None:
    dtypes = {output: graph.outputs[output].dtype for output in found.heads.values()}
    for output, dtype in dtypes.items():
        if dtype not in _kernels.ELEMENTS:
            raise ValueError(
                f"{graph.name}: the output {output} must be {_check.either(_kernels.ELEMENTS)}, got {dtype}"
            )
    if len({*dtypes.values()}) > 1:
        got = " and ".join(dtypes.values())
        raise ValueError(f"{graph.name}: {' and '.join(found.heads)} must have one dtype, got {got}")
