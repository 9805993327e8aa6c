"""Networks that are known by their outputs: never taken for a PoseNet, and named where they are not supported."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')

from posepost import ort

from ..onnx_models import exactly, outputs_only

Shapes = dict[str, tuple[Any, ...]]
YES = "; not supported yet"


def one_person(preset: str, heatmaps: str) -> str:
    return f'{YES} but for one person: give preset="{preset}", which decodes {heatmaps} alone'


OPENPOSE: Shapes = {"Mconv7_stage2_L2": (19, 32, 32), "Mconv7_stage2_L1": (38, 32, 32)}
LIGHTWEIGHT: Shapes = {
    "stage_0_output_1_heatmaps": (19, 32, 32),
    "stage_0_output_0_pafs": (38, 32, 32),
    "stage_1_output_1_heatmaps": (19, 32, 32),
    "stage_1_output_0_pafs": (38, 32, 32),
}
CENTERNET: Shapes = {
    "hm": (1, 64, 64), "wh": (2, 64, 64), "hps": (34, 64, 64),
    "reg": (2, 64, 64), "hm_hp": (17, 64, 64), "hp_offset": (2, 64, 64),
}  # fmt: skip
DEEPLABCUT: Shapes = {"heatmap": (4, 32, 32), "locref": (8, 32, 32)}
SIMCC_3D: Shapes = {"simcc_x": (133, 512), "simcc_y": (133, 512), "simcc_z": (133, 512)}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (OPENPOSE, "OpenPose (COCO): Mconv7_stage2_L2 and Mconv7_stage2_L1 have 19 and 38 channels, as its heatmaps "
         "and "
         "part affinity fields have" + one_person("openpose", "Mconv7_stage2_L2")),
        ({"a": (26, 32, 32), "b": (52, 32, 32)}, "OpenPose (BODY_25): a and b have 26 and 52 channels, as its heatmaps "
         "and part affinity fields have" + one_person("openpose", "a")),
        (LIGHTWEIGHT, "OpenPose (COCO): stage_1_output_1_heatmaps and stage_0_output_0_pafs have 19 and 38 channels, "
         "as "
         "its heatmaps and part affinity fields have" + one_person("openpose", "stage_1_output_1_heatmaps")),
        ({"cmap": (18, 64, 64), "paf": (42, 64, 64)}, "trt_pose: cmap and paf have 18 and 42 channels, as its heatmaps "
         "and part affinity fields have" + one_person("trt_pose", "cmap")),
        ({"MultiInstanceConfmapsHead": (5, 64, 64), "PartAffinityFieldsHead": (8, 32, 32)}, "SLEAP's bottom-up models: "
         "PartAffinityFieldsHead is named so" + one_person("sleap", "MultiInstanceConfmapsHead")),
        (CENTERNET, "CenterNet: the outputs hm, wh, hps, reg, hm_hp, hp_offset are its centers, sizes, displacements "
         "and "
         "offsets" + YES),
        (dict(zip("abcdef", CENTERNET.values())), "CenterNet: outputs of 1, 2, 2, 17 and 34 channels are its centers, "
         "sizes and offsets" + YES),
        (DEEPLABCUT, "DeepLabCut: locref is named so, the location refinement of heatmap"
         + one_person("deeplabcut", "heatmap and locref")),
        ({"heatmaps": (17, 64, 64), "center": (1, 64, 64), "regs": (34, 64, 64), "offsets": (34, 64, 64)}, "MoveNet "
         "before its decoding: outputs of 1, 17, 34 and 34 channels are a center, heatmaps, regressions and "
         "offsets" + YES),
        ({"output": (34, 64, 64), "1234": (17, 128, 128)}, "HigherHRNet: output has 34 channels, heatmaps and tags, "
         "and "
         "1234 17 on a grid twice as fine" + one_person("higherhrnet", "1234")),
        ({"heatmaps": (17, 64, 64), "tags": (17, 64, 64)}, "associative embedding: tags is named so"
         + one_person("higherhrnet", "heatmaps")),
        ({"heatmaps": (18, 64, 64), "offsets": (34, 64, 64)}, "DEKR: heatmaps and offsets have 18 and 34 channels, K "
         "+ 1 "
         "and 2K" + YES),
        (SIMCC_3D, "RTMW3D or another SimCC with depth: simcc_x, simcc_y, simcc_z are vectors along x, y and z" + YES),
        ({"output0": (56, 1344)}, "YOLO-pose: output0 (1, 56, 1344) is a list of 1344 candidates of 56 numbers" + YES),
        ({"output0": (1344, 17)}, "a one-stage network: output0 (1, 1344, 17) is a list of 1344 candidates of 17 "
         "numbers"
         + YES),
        ({"output0": (300, 57)}, "YOLO-pose: output0 (1, 300, 57) is a list of 300 candidates of 57 numbers" + YES),
        ({"a": (56, 32, 32), "b": (56, 16, 16), "c": (56, 8, 8)}, "a one-stage network: a, b, c are the same numbers "
         "on "
         "grids ever coarser" + YES),
        ({"dets": (None, 5), "keypoints": (None, 17, 3)}, "RTMO or YOLOX-Pose as mmdeploy exports them: dets (1, any, "
         "5) "
         "and keypoints (1, any, 17, 3) are lists of boxes and of their keypoints" + YES),
        ({"output_0": (1, 17, 3)}, "MoveNet: output_0 (1, 1, 17, 3) is one person's keypoints, y, x and score" + YES),
        ({"output_0": (6, 56)}, "MoveNet MultiPose: output_0 (1, 6, 56) is six people's keypoints and boxes" + YES),
        ({"Identity": (195,), "Identity_1": (1,), "Identity_2": (256, 256, 1), "Identity_3": (64, 64, 39)},
         "MediaPipe's BlazePose: one output is 39 landmarks of five numbers (195)" + YES),
        ({"keypoints": (17, 2), "scores": (17, 1)}, "a network that regresses coordinates: keypoints (1, 17, 2) are "
         "points, not heatmaps" + YES),
        ({"boxes": (4,), "labels": (), "keypoints": (17, 3)}, "Keypoint R-CNN: keypoints (1, 17, 3) beside boxes are "
         "people already found" + YES),
        ({"cif": (17, 5, 33, 33), "caf": (19, 8, 33, 33)}, "OpenPifPaf: cif (1, 17, 5, 33, 33) and caf "
         "(1, 19, 8, 33, 33) are composite fields" + YES),
        ({"dets": (100, 5), "labels": (100,)}, "a detector of boxes: dets (1, 100, 5) and labels (1, 100), and no pose "
         "head" + YES),
    ],
)  # fmt: skip
def test_known_networks_are_named_and_not_taken_for_another(shapes: Shapes, message: str) -> None:
    data = outputs_only(shapes, (256, 256))
    text = f"model: this looks like {message}".replace("(1, ", "(any, ").replace("(any, 1, 17, 3)", "(any, 1, 17, 3)")
    for read in (ort.recognize, ort.read_model, ort.read_topdown):
        with pytest.raises(ValueError, match=exactly(text)):
            read(data)


@pytest.mark.parametrize(
    ("given", "heads"),
    [
        ({"preset": "openpose"}, {"heatmaps": "Mconv7_stage2_L2"}),
        ({"preset": "hrnet", "heads": {"heatmaps": "Mconv7_stage2_L1"}}, {"heatmaps": "Mconv7_stage2_L1"}),
        ({"heads": {"heatmaps": "Mconv7_stage2_L2"}}, {"heatmaps": "Mconv7_stage2_L2"}),
    ],
)
def test_a_preset_or_named_heads_settle_it(given: dict[str, Any], heads: dict[str, str]) -> None:
    data = outputs_only(OPENPOSE, (256, 256))
    assert (ort.recognize(data, **given).kind, ort.recognize(data, **given).heads) == ("heatmap", heads)
    assert ort.read_topdown(data, **given).heads == heads


def test_named_heads_make_a_posenet_of_anything_that_fits() -> None:
    heads = {"heatmaps": "Mconv7_stage2_L2", "offsets": "Mconv7_stage2_L1"}
    model = ort.read_model(outputs_only(OPENPOSE, (256, 256)), heads=heads)
    assert (model.heads, model.heads_by) == (heads, "named by the caller")


def test_the_location_refinement_of_deeplabcut_comes_with_its_preset() -> None:
    data = outputs_only(DEEPLABCUT, (256, 256))
    both = {"heatmaps": "heatmap", "offsets": "locref"}
    assert ort.read_topdown(data, preset="deeplabcut").heads == both
    assert ort.read_topdown(data, preset="deeplabcut", heads=both).heads == both
    alone = {"heatmaps": "heatmap"}
    assert ort.read_topdown(data, preset="deeplabcut", heads=alone).heads == alone
    with pytest.raises(
        ValueError, match=exactly("heads must have keys among heatmaps, simcc_x, simcc_y, got 'offsets'")
    ):
        ort.read_topdown(data, preset="hrnet", heads=both)


def test_a_list_of_candidates_cannot_be_named_heatmaps() -> None:
    data = outputs_only({"output0": (56, 1344)}, (256, 256))
    message = "heads['heatmaps'] must name an output of shape (N, K, H, W) or (N, H, W, K), got output0 (any, 56, 1344)"
    with pytest.raises(ValueError, match=exactly(message)):
        ort.recognize(data, heads={"heatmaps": "output0"})
    message = "heads['simcc_x'] must name an output of shape (N, K, bins), got maps (any, 17, 64, 48)"
    with pytest.raises(ValueError, match=exactly(message)):
        ort.recognize(outputs_only({"maps": (17, 64, 48)}), heads={"simcc_x": "maps"})


def test_the_exporter_says_what_it_exported() -> None:
    metadata = {"task": "pose", "kpt_shape": "[17, 3]", "names": "{0: 'person'}"}
    data = outputs_only({"output0": (56, 525)}, (256, 256), metadata=metadata)
    with pytest.raises(ValueError, match=r"^model: this looks like YOLO-pose: its metadata says so, and the output is"):
        ort.recognize(data)


def test_two_heads_in_one_output_are_not_taken_for_keypoints() -> None:
    data = outputs_only({"output": (34, 64, 64)}, (256, 256))
    message = (
        "model: output (any, 34, 64, 64) may be 34 heatmaps, or 17 heatmaps and 17 tags (associative embedding), which "
        'are not supported yet; give preset= or heads={"heatmaps": "output"} for 34 heatmaps'
    )
    with pytest.raises(ValueError, match=exactly(message)):
        ort.recognize(data)
    assert ort.read_topdown(data, preset="hrnet").keypoint_count == 34
    assert ort.read_topdown(data, heads={"heatmaps": "output"}).keypoint_count == 34


def test_a_third_vector_is_not_dropped() -> None:
    data = outputs_only({"a": (17, 288), "b": (17, 384), "depth": (17, 3)})
    message = (
        "model: a (any, 17, 288) and b (any, 17, 384) may be the head (a and b have as many bins a pixel in width and "
        'height), but depth (any, 17, 3) would be left over: give heads={"simcc_x": "a", "simcc_y": "b"} to decode '
        "without"
    )
    with pytest.raises(ValueError, match=exactly(message)):
        ort.recognize(data)
    named = ort.read_topdown(outputs_only(SIMCC_3D, (256, 256)), heads={"simcc_x": "simcc_x", "simcc_y": "simcc_y"})
    assert named.evidence.against == ("simcc_z is left over",)
    assert "against          simcc_z is left over" in ort.describe(named)


def test_scores_beside_the_vectors_made_no_pose_head_of_simcc() -> None:
    shapes: Shapes = {"simcc_x": (17, 384), "simcc_y": (17, 512), "keypoints_score": (17,)}
    assert ort.recognize(outputs_only(shapes)).heads == {"simcc_x": "simcc_x", "simcc_y": "simcc_y"}
    points: Shapes = {"keypoints": (34,)}
    with pytest.raises(ValueError, match=r"this looks like a network that regresses coordinates"):
        ort.recognize(outputs_only(points))
