"""Heatmaps alone and SimCC: which outputs they are, what the graph tells, and what must be given."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

import onnx
from onnx import TensorProto

from posepost import (
    ort,
)
from posepost.schemes import SCHEMES

from ..dots import BOXES, found, photograph, photograph_pixels
from ..onnx_models import (
    COCO,
    FOUR,
    build,
    exactly,
    network,
    outputs_only,
)


@pytest.mark.parametrize(
    ("shapes", "kind", "facts"),
    [
        ({"output": (17, 64, 48)}, "heatmap", ("by shape", "NCHW", (48, 64), 4, 17)),
        ({"output": (17, 128, 96)}, "heatmap", ("by shape", "NCHW", (96, 128), 2, 17)),
        ({"output": (17, 32, 24)}, "heatmap", ("by shape", "NCHW", (24, 32), 8, 17)),
        ({"output": (21, 256, 192)}, "heatmap", ("by shape", "NCHW", (192, 256), 1, 21)),
        ({"output": (64, 48, 17)}, "heatmap", ("by shape", "NHWC", (48, 64), 4, 17)),
        ({"output": (17, 43, 32)}, "heatmap", ("by shape", "NCHW", (32, 43), 6, 17)),
        ({"output": (17, 51, 38)}, "heatmap", ("by shape", "NCHW", (38, 51), 5, 17)),
        ({"output": (17, 64, 48), "features": (256,)}, "heatmap", ("by shape", "NCHW", (48, 64), 4, 17)),
        ({"simcc_x": (17, 384), "simcc_y": (17, 512)}, "simcc", ("by shape", None, (384, 512), 2, 17)),
        ({"a": (133, 512), "b": (133, 384)}, "simcc", ("by shape", None, (384, 512), 2, 133)),
        ({"a": (17, 576), "b": (17, 768)}, "simcc", ("by shape", None, (576, 768), 3, 17)),
        ({"a": (17, 288), "b": (17, 384), "z": (18, 9)}, "simcc", ("by shape", None, (288, 384), 1.5, 17)),
    ],
)  # fmt: skip
def test_recognition_by_shape(shapes: dict[str, tuple[int, ...]], kind: str, facts: tuple[Any, ...]) -> None:
    data = outputs_only(shapes)
    assert ort.recognize(data).kind == kind
    model = ort.read_topdown(data)
    assert (model.heads_by, model.layout, model.sizes, model.ratio, model.keypoint_count) == facts
    assert (model.kind, model.preset, model.activation) == (kind, ort.DEFAULT_PRESETS[kind], None)
    if kind == "simcc":
        x, y = (shapes[model.heads[head]][1] for head in ("simcc_x", "simcc_y"))
        assert x < y


def test_heatmaps_with_offsets_are_posenet() -> None:
    assert ort.recognize(build()).kind == "posenet"
    assert ort.recognize(build(FOUR, layout="NHWC")).heads == {name: name for name in FOUR}
    assert ort.recognize(build(hide_maps=True), heads={"heatmaps": "heatmaps", "offsets": "offsets"}).kind == "posenet"


def test_names_decide_between_vectors_of_a_square_input() -> None:
    for names in (("simcc_x", "simcc_y"), ("X", "Y"), ("pred.x", "pred.y")):
        shapes = {names[1]: (21, 512), names[0]: (21, 512)}
        model = ort.read_topdown(outputs_only(shapes, (256, 256)))
        assert model.heads == {"simcc_x": names[0], "simcc_y": names[1]}
        assert model.heads_by == "by shape and name"


NONE = (
    "model: no pose head among the outputs for an input of 192x256 pixels: heatmaps of K channels with offsets of 2K "
    "(PoseNet), heatmaps alone that are smaller by a whole number, or two (N, K, bins) with as many bins a pixel in "
    "width and height (SimCC): "
)
SEVERAL = "model: several outputs may be the heads, name them, such as "


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"boxes": (100, 9), "labels": (100,)}, NONE + "boxes (1, 100, 9), labels (1, 100)"),
        ({"output": (17, 42, 33)}, NONE + "output (1, 17, 42, 33)"),  # 256 / 6 rounded down, 192 / 6 up
        ({"output": (17, 64, 64)}, NONE + "output (1, 17, 64, 64)"),
        ({"a": (17, 384), "b": (17, 500)}, NONE + "a (1, 17, 384), b (1, 17, 500)"),
        ({"a": (17, 384), "b": (18, 512)}, NONE + "a (1, 17, 384), b (1, 18, 512)"),
        ({"a": (17, 24), "b": (17, 32)}, NONE + "a (1, 17, 24), b (1, 17, 32)"),
        ({"a": (17, 64, 48), "b": (17, 64, 48)},
         SEVERAL + 'heads={"heatmaps": "b"}: a (1, 17, 64, 48), b (1, 17, 64, 48)'),
        ({"a": (17, 64, 48), "b": (17, 384), "c": (17, 512)},
         SEVERAL + 'heads={"simcc_x": "b", "simcc_y": "c"}: a (1, 17, 64, 48), b (1, 17, 384), c (1, 17, 512)'),
    ],
)  # fmt: skip
def test_outputs_that_are_no_head_or_may_be_several(shapes: dict[str, tuple[Any, ...]], message: str) -> None:
    for read in (ort.recognize, ort.read_topdown):
        with pytest.raises(ValueError, match=exactly(message.replace("(1, ", "(any, "))):
            read(outputs_only(shapes))


def test_a_layout_that_the_sizes_do_not_tell_must_be_given() -> None:
    data = outputs_only({"a": (64, 64, 64)}, (256, 256))
    message = 'cannot tell the layout of the heatmaps, give layout="NCHW" or layout="NHWC": a (any, 64, 64, 64)'
    with pytest.raises(ValueError, match=exactly(f"model: {message}")):
        ort.recognize(data)
    for layout in ("NCHW", "NHWC"):
        assert ort.read_topdown(data, layout=layout).layout == ort.recognize(data, layout=layout).layout == layout


def test_a_square_simcc_whose_names_say_nothing_must_be_named() -> None:
    data = outputs_only({"a": (21, 512), "b": (21, 512)}, (256, 256))
    with pytest.raises(ValueError, match=r"^" + re.escape(SEVERAL)):
        ort.recognize(data)
    named = ort.read_topdown(data, heads={"simcc_x": "b"})
    assert (named.heads, named.heads_by) == ({"simcc_x": "b", "simcc_y": "a"}, "named by the caller")


def test_named_heads_are_taken_and_checked() -> None:
    data = outputs_only({"a": (17, 64, 48), "b": (17, 64, 48)})
    assert ort.recognize(data, heads={"heatmaps": "b"}).heads == {"heatmaps": "b"}
    assert ort.read_topdown(data, heads={"heatmaps": "b"}).heads_by == "named by the caller"
    odd = ort.read_topdown(outputs_only({"a": (17, 64, 64)}), heads={"heatmaps": "a"}, layout="NCHW")
    assert (odd.sizes, odd.ratio) == ((64, 64), None)
    with pytest.raises(
        ValueError, match=exactly("heads must have keys among heatmaps, simcc_x, simcc_y, got 'offsets'")
    ):
        ort.read_topdown(data, heads={"offsets": "b"})
    with pytest.raises(ValueError, match=exactly("heads['heatmaps'] must be one of the outputs a, b, got 'c'")):
        ort.recognize(data, heads={"heatmaps": "c"})
    with pytest.raises(
        ValueError,
        match=exactly(
            "heads must have keys among heatmaps, offsets, displacement_fwd, displacement_bwd, simcc_x, simcc_y, "
            "got 'joints'"
        ),
    ):
        ort.recognize(data, heads={"joints": "a"})


@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
def test_shapes_that_the_graph_hides_are_known_by_a_run_on_zeros(kind: str) -> None:
    plain = ort.TopDownSession(network(kind, COCO), keypoints="coco")
    session = ort.TopDownSession(network(kind, COCO, hide=True), keypoints="coco")
    for name in ("heads", "layout", "sizes", "ratio", "keypoint_count", "keypoints"):
        assert getattr(session.model, name) == getattr(plain.model, name)
    image = photograph([(85, 60, 0), (70, 90, 1), (100, 70, 1)])
    for flip in (False, True):
        for ours, theirs in zip(*(found(s, image, BOXES["upright"], flip=flip) for s in (session, plain))):
            assert np.array_equal(ours, theirs)
    other = ort.TopDownSession(network(kind, hide=True))
    with pytest.raises(ValueError, match=r"^flip_pairs must be given for a flip test"):
        found(other, image, BOXES["upright"], flip=True)
    with pytest.raises(ValueError, match=exactly("keypoints must name the 3 keypoints of model, got 17 (coco)")):
        ort.TopDownSession(network(kind, hide=True), keypoints="coco")


def test_named_vectors_that_do_not_fit_the_input() -> None:
    data = network("simcc", size=(64, 48), names=("a", "b"))
    session = ort.TopDownSession(data, heads={"simcc_x": "b", "simcc_y": "a"})
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: simcc_x and simcc_y must have as many bins a pixel of the input, which is 48 wide and 64 high, "
            "got 128 and 96"
        ),
    ):
        found(session, photograph([]), None)


def test_udp_combined_is_never_guessed() -> None:
    data = network(channels=COCO, size=(257, 193), offsets=True)
    with pytest.raises(
        ValueError,
        match=exactly(
            'model: 51 channels may be 51 keypoints or 17 with offsets; give preset="mmpose_udp_combined" '
            "for offsets, or another preset for 51 keypoints"
        ),
    ):
        ort.TopDownSession(data)
    assert ort.read_topdown(data, preset="mmpose_dark").keypoint_count == 51
    session = ort.TopDownSession(data, preset="mmpose_udp_combined", keypoints="coco")
    assert (session.model.keypoint_count, session.model.keypoints) == (17, SCHEMES["coco"].keypoints)
    dots, box = [(85, 60, 0), (70, 90, 1), (100, 70, 1)], BOXES["upright"]
    truth = np.array([dots[0] if not side else dots[1] if side == "left" else dots[2] for _, side in COCO])[:, :2]
    for flip in (False, True):
        off = found(session, photograph(dots), box, flip=flip).keypoints[0] - truth
        assert np.abs(off).max() < 2.5 * photograph_pixels(box, (257, 193))
    plain = outputs_only({"a": (63, 64, 48)})
    assert ort.read_topdown(plain).keypoint_count == 63  # no question where 3K channels are unlikely
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: heatmaps must have three channels a keypoint (class, x, y) for mmpose_udp_combined, got 17"
        ),
    ):
        ort.read_topdown(outputs_only({"a": (17, 64, 48)}), preset="mmpose_udp_combined")


def test_what_the_graph_and_the_metadata_tell() -> None:
    data = network(metadata={
        "posepost.mean": "1,2,3", "posepost.std": "4", "posepost.keypoints": "nose,left_eye,right_eye",
    })  # fmt: skip
    model = ort.read_topdown(data)
    assert (model.keypoints, model.normalization_by) == (("nose", "left_eye", "right_eye"), "metadata")
    assert (model.mean.tolist(), model.std.tolist()) == ([1, 2, 3], [4, 4, 4])
    assert ort.TopDownSession(data).flip_pairs(3) == (0, 2, 1)
    default = ort.read_topdown(network())
    assert np.allclose(default.mean, (123.675, 116.28, 103.53))
    assert np.allclose(default.std, (58.395, 57.12, 57.375))
    assert ort.read_topdown(network(), mean=5).normalization_by == "given"
    quantized = ort.read_topdown(network("simcc", dtype="uint8"))
    assert quantized.quantization == {head: (pytest.approx(1 / 200), 0) for head in ("simcc_x", "simcc_y")}


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (outputs_only({"a": (17, 64, 48)}), {"preset": "rtmpose"},
         'preset must be "mmpose_msra", "mmpose_dark", "mmpose_udp", "mmpose_udp_combined", "mmpose_megvii", '
         '"mmpose_integral", "mmdeploy", "hrnet", "vitpose_hf", "vitpose_rtmlib", "sapiens", "higherhrnet", '
         '"trt_pose", "openpose", "sleap", "mediapipe" or "deeplabcut", got \'rtmpose\''),
        (outputs_only({"a": (17, 384), "b": (17, 512)}), {"preset": "hrnet"},
         'preset must be "rtmpose", "rtmpose_rtmlib" or "simcc", got \'hrnet\''),
        (outputs_only({"a": (17, 64, 48)}), {"layout": "CHW"}, 'layout must be "NCHW", "NHWC" or None, got \'CHW\''),
        (outputs_only({"a": (17, 64, 48)}), {"activation": "relu"},
         'activation must be "auto", "sigmoid" or None, got \'relu\''),
        (outputs_only({"a": (17, 64, 48)}), {"std": 0}, "std must be above 0, got 0"),
        (outputs_only({"a": (17, 64, 48)}, dtype="float64"), {},
         "model: the output a must be float32, float16, bfloat16, uint8 or int8, got float64"),
        (outputs_only({"a": (17, 64, 48)}, dtype="uint8"), {}, "model: cannot read the scale of the uint8 output a"),
    ],
)  # fmt: skip
def test_wrong_arguments(data: bytes, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=exactly(message)):
        ort.TopDownSession(data, **arguments)


def test_vectors_of_two_dtypes() -> None:
    proto = onnx.load_from_string(outputs_only({"a": (17, 384), "b": (17, 512)}))
    proto.graph.output[1].type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(
        ValueError, match=exactly("model: simcc_x and simcc_y must have one dtype, got float32 and float16")
    ):
        ort.read_topdown(proto.SerializeToString())
