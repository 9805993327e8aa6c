"""`posepost run` with top-down models: one person a box, in pixels of the photograph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from PIL import Image

from posepost import cli, ort
from posepost.draw import PEOPLE, overlay
from posepost.ort.people import SHOWN
from posepost.schemes import SCHEMES

from ..dots import BOXES, PAIR, dots_in, found, photograph, photograph_pixels
from ..onnx_models import COCO, network
from .commands import complaints, joints, written

TWO = ["--box", "10,10,50,80", "--box", "120.5,70,180,140"]
RULE = "--box must be finite x0, y0, x1, y1 with x0 < x1 and y0 < y1"


@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
def test_run_writes_one_person_a_box(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", f"{kind}.onnx", "photo.png", *TWO, "-o", "out"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    preset = {"heatmap": "mmpose_msra", "simcc": "rtmpose"}[kind]
    assert out.splitlines()[1:] == [
        f"preset: {preset}, the default; the graph does not tell it, --preset does",
        "photo.png: 2 people, wrote out/photo.json and out/photo.overlay.png",
    ]
    session = ort.TopDownSession(f"{kind}.onnx")
    image = Image.open("photo.png")
    expected = found(session, image, PAIR)
    document = written(folder / "out")
    assert np.array_equal(joints(document), np.concatenate([expected.keypoints, expected.scores[..., None]], axis=2))
    for pose, box, scores in zip(document["poses"], PAIR, expected.scores):
        assert pose["box"] == list(box)
        assert pose["score"] == pytest.approx(scores.mean(dtype=np.float64))
        assert [joint["name"] for joint in pose["keypoints"]] == ["keypoint 0", "keypoint 1", "keypoint 2"]
        off = joints(document)[document["poses"].index(pose), :, :2] - np.array(dots_in(box))[:, :2]
        assert np.abs(off).max() < 1.5 * photograph_pixels(box)
    del document["poses"]
    assert document == {
        "image": "photo.png", "width": 200, "height": 160, "model": f"{kind}.onnx", "input_size": [48, 64],
        "device": session.device,
    }  # fmt: skip
    drawn = np.asarray(overlay(image, expected.keypoints, expected.scores, min_score=SHOWN))
    with Image.open("out/photo.overlay.png") as picture:
        assert np.array_equal(np.asarray(picture), drawn)
    for color in PEOPLE[:2]:
        assert (drawn == color).all(axis=2).any()


def test_boxes_of_many_images_from_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "deep").mkdir()
    photograph([]).save("deep/empty.png")
    boxes = {"photo.png": PAIR, "./other.png": [[40, 60, 160, 100]], "other.png": [], "empty.png": [], "more.png": "?"}
    (folder / "boxes.json").write_text(json.dumps(boxes))
    images = ["photo.png", "./other.png", "deep/empty.png"]
    assert cli.main(["run", "heatmap.onnx", *images, "--boxes", "boxes.json", "-o", "out"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.partition(",")[0] for line in lines] == [
        "photo.png: 2 people", "./other.png: 1 person", "deep/empty.png: 0 people",
    ]  # fmt: skip
    assert cli.main(["run", "heatmap.onnx", "photo.png", *TWO, "-o", "again"]) == 0
    assert written(folder / "out") == written(folder / "again")
    (other,) = written(folder / "out", "other")["poses"]
    assert other["box"] == [40, 60, 160, 100]
    off = joints(written(folder / "out", "other"))[0, :, :2] - np.array(dots_in(BOXES["wide"]))[:, :2]
    assert np.abs(off).max() < 1.5 * photograph_pixels(BOXES["wide"])
    assert written(folder / "out", "empty")["poses"] == []
    with Image.open("out/empty.overlay.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(photograph([])))


def test_options_reach_the_session(folder: Path) -> None:
    """Each option gives what the session gives with the argument of that name, and something else than without it."""
    image = Image.open("photo.png")

    def run(*options: str, model: str = "heatmap.onnx") -> np.ndarray[Any, Any]:
        assert cli.main(["run", model, "photo.png", *options, "-o", "out"]) == 0
        return joints(written(folder / "out"))

    def direct(boxes: Any = None, flip: bool = False, padding: float = 1.25, **arguments: Any) -> np.ndarray[Any, Any]:
        session = ort.TopDownSession("heatmap.onnx", **arguments)
        images, transforms = session.crop(image, boxes, padding=padding)
        result = session.run(images, transform=transforms, flip=flip)
        return np.concatenate([result.keypoints, result.scores[..., None]], axis=2)

    plain = run()
    assert np.array_equal(plain, direct())
    assert written(folder / "out")["poses"][0]["box"] == [0, 0, 200, 160]
    for options, arguments in (
        (["--preset", "mmpose_udp"], {"preset": "mmpose_udp"}),
        (["--padding", "1.5"], {"padding": 1.5}),
        (["--mean", "100", "--std", "50,60,70"], {"mean": 100, "std": (50, 60, 70)}),
        (["--flip", "--flip-pairs", "0,2,1"], {"flip": True, "flip_pairs": (0, 2, 1)}),
        (["--flip-pairs", "0,2,1"], {"flip": True, "flip_pairs": (0, 2, 1)}),
        (["--activation", "sigmoid"], {"activation": "sigmoid"}),
        (["--heads", "heatmaps=heatmaps", "--box=-10,0,80,90"], {"boxes": [(-10, 0, 80, 90)]}),
        (["--layout", "NCHW", "--box", "1e1,0,80,90.5"], {"boxes": [(10, 0, 80, 90.5)]}),
    ):
        ours = run(*options)
        assert np.array_equal(ours, direct(**arguments)), options
        assert not np.array_equal(ours, plain), options
    (folder / "free.onnx").write_bytes(network(size=(None, None)))
    run("--size", "96x72", model="free.onnx")
    assert written(folder / "out")["input_size"] == [96, 72]


def test_flip_with_the_names_of_coco(folder: Path) -> None:
    dots = [(85, 60, 0), (70, 90, 1), (100, 70, 1)]
    photograph(dots).save("one.png")
    session = ort.TopDownSession("coco.onnx", keypoints="coco")
    for options, flip in ((["--keypoints", "coco"], False), (["--keypoints", "coco", "--flip"], True)):
        assert cli.main(["run", "coco.onnx", "one.png", "--box", "60,30,110,120", *options, "-o", "out"]) == 0
        expected = found(session, Image.open("one.png"), BOXES["upright"], flip=flip)
        document = written(folder / "out", "one")
        assert np.array_equal(joints(document)[..., :2], expected.keypoints)
        assert [joint["name"] for joint in document["poses"][0]["keypoints"]] == list(SCHEMES["coco"].keypoints)
    hidden = network(channels=COCO, hide=True)
    Path("hidden.onnx").write_bytes(hidden)
    named = [
        "--heads",
        "heatmaps=heatmaps",
        "--layout",
        "NCHW",
        "--flip",
        "--keypoints",
        "coco",
        "--box",
        "60,30,110,120",
    ]
    assert cli.main(["run", "hidden.onnx", "one.png", *named, "-o", "hidden"]) == 0
    assert written(folder / "hidden", "one")["poses"] == document["poses"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--box", "1,2,3"], "posepost run: argument --box: must be x0,y0,x1,y1 in pixels of the image, got '1,2,3'"),
        (["--box", "a,b,c,d"],
         "posepost run: argument --box: must be x0,y0,x1,y1 in pixels of the image, got 'a,b,c,d'"),
        (["--box", "30,10,10,30"],
         f"posepost: photo.png: {RULE}, got (30, 10, 10, 30): they look like xywh: give --box-format xywh"),
        (["other.png", "--box", "0,0,9,9"],
         "posepost: --box is for one image, got 2; --boxes names a file for many"),
        (["--box", "0,0,9,9", "--boxes", "boxes.json"],
         "posepost: --box and --boxes must not be given together, got both"),
        (["--boxes", ""], "posepost: '': No such file or directory"),
        (["--boxes", "absent.json"], "posepost: absent.json: No such file or directory"),
        (["--boxes", "photo.png"], "posepost: --boxes photo.png must be a JSON file, got "),
        (["--boxes", "text.json"],
         "posepost: --boxes text.json must be a JSON file, got Expecting value: line 1 column 1 (char 0)"),
        (["--boxes", "list.json"],
         'posepost: --boxes list.json must hold {"IMAGE": [[x0, y0, x1, y1], ...], ...} or COCO\'s annotations or '
         "detection results, got [[0, 0, 9, 9]]"),
        (["--boxes", "boxes.json"],
         "posepost: --boxes boxes.json must hold [[x0, y0, x1, y1], ...] for photo.png, got [0, 0, 9, 9]"),
        (["--boxes", "other.json"],
         "posepost: --boxes other.json must have the boxes of each image, got none for photo.png"),
        (["--padding", "0"], "posepost run: argument --padding: must be a number above 0, got '0'"),
        (["--padding", "inf"], "posepost run: argument --padding: must be a number above 0, got 'inf'"),
        (["--flip-pairs", "0,b"],
         "posepost run: argument --flip-pairs: must be whole numbers with commas, such as 0,2,1, got '0,b'"),
        (["--flip-pairs", "0,1"], "posepost: --flip-pairs must name the partner of each of 3 keypoints, got 2"),
        (["--flip-pairs", "0,1,1"], "posepost: --flip-pairs must hold each of 0 to K - 1 once, got [0, 1, 1]"),
        (["--flip"],
         "posepost: --flip-pairs must be given for a flip test, or --keypoints with names that tell left from right, "
         "because the names of the 3 keypoints of heatmap.onnx are not known (no scheme has 3 keypoints), got None"),
        (["--preset", "best"],
         'posepost: --preset must be "mmpose_msra", "mmpose_dark", "mmpose_udp", "mmpose_udp_combined", '
         '"mmpose_megvii", "mmpose_integral", "mmdeploy", "hrnet", "vitpose_hf", "vitpose_rtmlib", "sapiens", '
         '"higherhrnet", "trt_pose", "openpose", "sleap", "mediapipe" or "deeplabcut", got \'best\''),
        (["--size", "64x64"], "posepost: --size must be what the model takes, 48x64, got 64x64"),
        *(
            ([*option, *value],
             f"posepost: {option[0]} is for models with PoseNet heads, got heatmap.onnx with heatmaps alone")
            for option, value in ((["--stride"], ["4"]), (["--people"], ["one"]), (["--score"], ["0.5"]))
        ),
    ],
)  # fmt: skip
def test_wrong_options(arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (
        ("text", "boxes"), ("list", "[[0, 0, 9, 9]]"), ("boxes", '{"photo.png": [0, 0, 9, 9]}'),
        ("other", '{"other.png": [[0, 0, 9, 9]]}'),
    ):  # fmt: skip
        (folder / f"{name}.json").write_text(content)
    assert cli.main(["run", "heatmap.onnx", "photo.png", *arguments, "-o", "out"]) == 2
    (line,) = complaints(capsys)
    assert line.startswith(message) if message.endswith("got ") else line == message
    assert not list(folder.glob("out/*"))


@pytest.mark.parametrize("options", [
    ["--preset", "hrnet"], ["--box", "0,0,9,9"], ["--boxes", "boxes.json"], ["--padding", "1"], ["--flip"],
    ["--flip-pairs", "0,1"], ["--box-format", "xywh"],
], ids=" ".join)  # fmt: skip
def test_boxes_and_their_options_are_not_for_posenet(
    options: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "posenet.onnx", "photo.png", *options, "-o", "out"]) == 2
    assert complaints(capsys) == [
        f"posepost: {options[0]} is for models with heatmaps alone or SimCC heads, got posenet.onnx with PoseNet heads"
    ]
    assert not (folder / "out").exists()
