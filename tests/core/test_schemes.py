"""Keypoint schemes: the data, how one is named, and what names tell of left and right."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import posepost
from posepost.schemes import SCHEMES, Scheme, flip_pairs_of, sides_of, words

COUNTS = {
    "coco": 17, "halpe26": 26, "coco_wholebody": 133, "h36m": 17, "ap10k": 17, "mpii": 16, "body25": 25,
    "openpose18": 18, "hand21": 21, "interhand": 21, "rhd": 21, "crowdpose": 14, "aic": 14, "face68": 68, "lapa": 106,
}  # fmt: skip
ASSET = Path(posepost.__file__).parent / "assets" / "schemes.json"


def exactly(message: str) -> str:
    return rf"\A{re.escape(message)}\Z"


def partners(name: str) -> dict[str, str]:
    """Each keypoint that a mirror exchanges, and its partner."""
    scheme = SCHEMES[name]
    assert scheme.flip_pairs is not None
    return {scheme.keypoints[k]: scheme.keypoints[other] for k, other in enumerate(scheme.flip_pairs) if k != other}


def test_every_scheme_has_as_many_keypoints_as_its_networks_have_channels() -> None:
    assert {name: len(scheme.keypoints) for name, scheme in SCHEMES.items()} == COUNTS


def test_every_scheme_names_its_source() -> None:
    for entry in json.loads(ASSET.read_text(encoding="utf-8")):
        assert len(entry["source"]) > 30, entry["name"]


@pytest.mark.parametrize("name", COUNTS)
def test_limbs_join_keypoints_that_are_there_and_partners_are_mutual(name: str) -> None:
    scheme = SCHEMES[name]
    K = len(scheme.keypoints)
    assert len(set(scheme.keypoints)) == K
    assert all(0 <= a < K and 0 <= b < K and a != b for a, b in scheme.limbs)
    assert len({frozenset(limb) for limb in scheme.limbs}) == len(scheme.limbs)
    pairs = scheme.flip_pairs
    assert pairs is not None
    assert [pairs[other] for other in pairs] == list(range(K))


@pytest.mark.parametrize("name", COUNTS)
def test_partners_have_mirrored_names_and_mirrored_limbs(name: str) -> None:
    scheme = SCHEMES[name]
    pairs, sides = scheme.flip_pairs, sides_of(scheme.keypoints)
    assert pairs is not None
    for k, other in enumerate(pairs):
        if sides[k] is not None:
            assert {sides[k], sides[other]} == {"left", "right"}
            assert sorted({*words(scheme.keypoints[k])} ^ {*words(scheme.keypoints[other])}) in (
                ["left", "right"],
                ["l", "r"],
            )
        elif not scheme.keypoints[k].startswith(("face-", "lapa-")):
            assert other == k
    limbs = {frozenset(limb) for limb in scheme.limbs}
    assert {frozenset(pairs[k] for k in limb) for limb in limbs} == limbs


def test_facts_of_the_schemes() -> None:
    place = {name: scheme.keypoints.index for name, scheme in SCHEMES.items()}
    assert SCHEMES["coco"].flip_pairs == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert SCHEMES["h36m"].flip_pairs == (0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13)
    assert SCHEMES["ap10k"].flip_pairs == (1, 0, 2, 3, 4, 8, 9, 10, 5, 6, 7, 14, 15, 16, 11, 12, 13)
    assert SCHEMES["mpii"].flip_pairs == (5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10)
    assert (place["h36m"]("root"), place["h36m"]("right_hip"), place["h36m"]("left_shoulder")) == (0, 1, 11)
    assert (place["halpe26"]("neck"), place["halpe26"]("left_big_toe"), place["halpe26"]("right_heel")) == (18, 20, 25)
    assert (place["body25"]("mid_hip"), place["body25"]("left_big_toe"), place["body25"]("right_heel")) == (8, 19, 24)
    assert (place["openpose18"]("neck"), place["openpose18"]("right_eye")) == (1, 14)
    assert (place["coco_wholebody"]("left_big_toe"), place["coco_wholebody"]("right_hand_root")) == (17, 112)
    assert (place["crowdpose"]("top_head"), place["aic"]("neck"), place["mpii"]("head_top")) == (12, 13, 9)
    assert SCHEMES["coco_wholebody"].keypoints[:17] == SCHEMES["halpe26"].keypoints[:17] == SCHEMES["coco"].keypoints


def test_faces_are_mirrored_about_the_nose() -> None:
    """300-W's 68: jaw 0 to 16, brows from 17, nose from 27, eyes from 36, mouth from 48, lips within from 60."""
    face = partners("face68")
    one_way = {"0": "16", "17": "26", "21": "22", "31": "35", "36": "45", "39": "42", "40": "47", "48": "54"}
    for a, b in {**one_way, "60": "64", "67": "65", "59": "55"}.items():
        assert (face[f"face-{a}"], face[f"face-{b}"]) == (f"face-{b}", f"face-{a}")
    middle = {8, 27, 28, 29, 30, 33, 51, 57, 62, 66}
    assert {f"face-{k}" for k in range(68)} - set(face) == {f"face-{k}" for k in middle}
    whole = partners("coco_wholebody")
    assert {a: b for a, b in whole.items() if a.startswith("face")} == face


def test_hands_are_their_own_mirror_and_differ_in_order() -> None:
    for name in ("hand21", "interhand", "rhd"):
        assert SCHEMES[name].flip_pairs == tuple(range(21))
        assert sorted(SCHEMES[name].keypoints) == sorted(SCHEMES["hand21"].keypoints)
    assert [SCHEMES[name].keypoints.index("wrist") for name in ("hand21", "interhand", "rhd")] == [0, 20, 0]
    assert [SCHEMES[name].keypoints.index("thumb4") for name in ("hand21", "interhand", "rhd")] == [4, 0, 1]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("coco", "coco"), ("COCO", "coco"), ("COCO-17", "coco"), ("halpe-26", "halpe26"), ("Halpe26", "halpe26"),
        ("COCO-WholeBody-133", "coco_wholebody"), ("Coco Wholebody", "coco_wholebody"), ("Human3.6M", "h36m"),
        ("Human3.6M-17", "h36m"), ("AP-10K", "ap10k"), ("MPII-16", "mpii"), ("BODY_25", "body25"),
        ("hand_21", "hand21"), ("CrowdPose14", "crowdpose"), ("300w", "face68"), ("coco18", "openpose18"),
    ],
)  # fmt: skip
def test_names_of_schemes_are_spelled_leniently(value: str, name: str) -> None:
    assert posepost.keypoint_scheme(value) is SCHEMES[name]


def test_names_of_a_known_scheme_get_its_limbs_however_they_are_spelled() -> None:
    openpose = [
        "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip", "RHip", "RKnee",
        "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar", "LBigToe", "LSmallToe", "LHeel", "RBigToe",
        "RSmallToe", "RHeel",
    ]  # fmt: skip
    scheme = posepost.keypoint_scheme(openpose)
    assert (scheme.name, scheme.keypoints) == ("body25", tuple(openpose))
    assert (scheme.limbs, scheme.flip_pairs) == (SCHEMES["body25"].limbs, SCHEMES["body25"].flip_pairs)
    other = posepost.keypoint_scheme([*openpose[1:], openpose[0]])
    assert (other.name, other.limbs) == ("", ())
    assert posepost.keypoint_scheme(scheme) is scheme


def test_schemes_are_read_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mouse = {"name": "mouse", "keypoints": ["snout", "ear_l", "ear_r", "tail"], "limbs": [[0, 1], [0, 2]]}
    bar = {"keypoints": ["one end", "other end", "middle"], "flip_pairs": [[0, 1]]}
    Path("mouse.json").write_text(json.dumps(mouse))
    Path("bar.json").write_text(json.dumps(bar))
    Path("list.json").write_text(json.dumps(mouse["keypoints"]))
    Path("names.txt").write_text("\ufeffsnout\near_l\r\near_r\n\ntail\n", encoding="utf-8")
    Path("coco").write_text("a\nb\n")
    read = posepost.keypoint_scheme("mouse.json")
    assert read == Scheme("mouse", ("snout", "ear_l", "ear_r", "tail"), ((0, 1), (0, 2)), (0, 2, 1, 3))
    assert posepost.keypoint_scheme(Path("mouse.json")) == read
    for path in ("list.json", "names.txt", "./names.txt"):
        assert posepost.keypoint_scheme(path) == Scheme("", read.keypoints)
    assert posepost.keypoint_scheme("bar.json").flip_pairs == (1, 0, 2)
    assert posepost.keypoint_scheme("coco") is SCHEMES["coco"]
    assert posepost.keypoint_scheme("./coco").keypoints == ("a", "b")
    for entry in json.loads(ASSET.read_text(encoding="utf-8")):
        Path("entry.json").write_text(json.dumps(entry))
        assert posepost.keypoint_scheme("entry.json") == SCHEMES[entry["name"]]


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        ("nose,left_eye,right_eye", (0, 2, 1)),
        ("Right ankle,head,Left ankle", (2, 1, 0)),
        ("eye_left,tail,eye_right,chin", (2, 1, 0, 3)),
        ("L_Eye,R_Eye,Nose", (1, 0, 2)),
        ("leftEye,rightEye", (1, 0)),
        ("LeftEye,Nose,RightEye", (2, 1, 0)),
        ("left eye,right eye", (1, 0)),
        ("l-eye,r-eye", (1, 0)),
        ("lEye,rEye", (1, 0)),
        ("eye_l,eye_r", (1, 0)),
        ("EyeL,EyeR", (1, 0)),
        ("LBigToe,RBigToe,LHeel,RHeel", (1, 0, 3, 2)),
        ("Leye,Reye,Nose", (1, 0, 2)),
        ("rear,lear,nose", (1, 0, 2)),  # as OpenPose's exporters write ears
        ("lefteye,righteye", (1, 0)),
        ("LEFT_EYE,RIGHT_EYE", (1, 0)),
        ("LEYE,REYE", (1, 0)),
        ("forelegL4,forelegR4,head,wingL,wingR", (1, 0, 2, 4, 3)),
        ("left_thumb1,left_thumb2,right_thumb1,right_thumb2", (2, 3, 0, 1)),
        ("thumb1_l,thumb2_l,thumb1_r,thumb2_r", (2, 3, 0, 1)),
        ("L1,R1,L2,R2", (1, 0, 3, 2)),
        ("left_eye,EyeR", (1, 0)),
        ("upright,bright,cleft,left_ear,right_ear", (0, 1, 2, 4, 3)),
        ("Œil_left,Œil_right", (1, 0)),
        ("left_rear_paw,right_rear_paw,rear", (1, 0, 2)),
        ("left_eye,nose", None),
        ("upright,bright,cleft", None),
        ("a,b,c", None),
        ("rear,front", None),
        ("left_eye,right_eye,left_eye", None),
        ("left_eye,L_Eye,right_eye", None),
        ("left_eye,right_eye,right_ear", None),
        ("", None),
    ],
)
def test_left_and_right_are_read_from_names(names: str, pairs: tuple[int, ...] | None) -> None:
    assert flip_pairs_of(names.split(",")) == pairs


def test_sides_of_names() -> None:
    assert sides_of(["L_F_Paw", "Root of tail", "rEye", "upright"]) == ["left", None, "right", None]


ALL = (
    "coco, halpe26, coco_wholebody, h36m, ap10k, mpii, body25, openpose18, hand21, interhand, rhd, crowdpose, aic, "
    "face68 or lapa"
)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("cocoo", ValueError, f"keypoints must be {ALL}, a file or a list of names, got 'cocoo'; did you mean coco?"),
        (
            "halpe",
            ValueError,
            f"keypoints must be {ALL}, a file or a list of names, got 'halpe'; did you mean halpe26?",
        ),
        ("qqq", ValueError, f"keypoints must be {ALL}, a file or a list of names, got 'qqq'"),
        (17, TypeError, "keypoints must be names in the order of the channels, got int"),
        (None, TypeError, "keypoints must be names in the order of the channels, got NoneType"),
        (b"coco", TypeError, "keypoints must be names in the order of the channels, got bytes"),
        ({"nose", "tail"}, TypeError, "keypoints must be names in the order of the channels, got set"),
        ({"nose": 0}, TypeError, "keypoints must be names in the order of the channels, got dict"),
        (["a", 1], TypeError, "keypoints must be names, got 1 at 1"),
        (["a", " "], ValueError, "keypoints must be names, got an empty one at 1"),
        (["a", "b", "a"], ValueError, "keypoints must be different names, got 'a' at 0 and 2"),
        ([], ValueError, "keypoints must be one name or more, got none"),
    ],
)
def test_what_is_no_scheme(value: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=exactly(message)):
        posepost.keypoint_scheme(value)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"limbs": [(0, 3)]}, ValueError, "limbs must be pairs of different numbers from 0 to 2, got [0, 3]"),
        ({"limbs": [(1, 1)]}, ValueError, "limbs must be pairs of different numbers from 0 to 2, got [1, 1]"),
        ({"limbs": [(0, 1, 2)]}, TypeError, "limbs must be pairs of numbers of keypoints, got (0, 1, 2)"),
        ({"limbs": [("a", "b")]}, TypeError, "limbs must be pairs of numbers of keypoints, got ('a', 'b')"),
        ({"limbs": 3}, TypeError, "limbs must be pairs of numbers of keypoints, got 3"),
        ({"name": 3}, TypeError, "name must be a string, got int"),
        ({"flip_pairs": (1, 0)}, ValueError, "flip_pairs must name the partner of each of 3 keypoints, got 2"),
        ({"flip_pairs": (1, 2, 0)}, ValueError, "flip_pairs must be mutual, got 1 for 0 and 2 for 1"),
        ({"flip_pairs": (1, 1, 0)}, ValueError, "flip_pairs must hold each of 0 to K - 1 once, got [1, 1, 0]"),
    ],
)
def test_wrong_limbs_and_partners(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=exactly(message)):
        Scheme(**{"name": "", "keypoints": ("a", "b", "c"), **arguments})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("x.json", "nose", "Expecting value: line 1 column 1 (char 0)"),
        ("x.json", "17", "must hold an object or a list of names, got 17"),
        ("x.json", "[" * 100_000, None),
        ("x.json", '{"names": []}', 'must be an object with "keypoints" and others of name, title, source, also, '
         "keypoints, limbs, flip_pairs, got names"),
        ("x.json", '{"keypoints": ["a"], "limb": []}', 'must be an object with "keypoints" and others of name, title, '
         "source, also, keypoints, limbs, flip_pairs, got keypoints, limb"),
        ("x.json", '{"keypoints": ["a", "b"], "limbs": [[0, 2]]}',
         "limbs must be pairs of different numbers from 0 to 1, got [0, 2]"),
        ("x.json", '{"keypoints": ["a", "b", "c"], "flip_pairs": [[0, 1], [1, 2]]}',
         "flip_pairs must hold each keypoint once at most, got [1, 2] and one of them again"),
        ("x.json", '{"keypoints": ["a", "b"], "flip_pairs": [1, 0]}',
         "flip_pairs must be pairs of numbers of keypoints, got 1"),
        ("x.txt", "a\nb\na\n", "must be different names, got 'a' at 0 and 2"),
        ("x.txt", "\n", "must be one name or more, got none"),
        ("x.txt", b"\xff\xfe", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)  # fmt: skip
def test_wrong_files(
    name: str, text: str | bytes, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"\A" + re.escape(f'keypoints="{name}": {message or ""}')) as error:
        posepost.keypoint_scheme(name)
    assert message is None or str(error.value) == f'keypoints="{name}": {message}'


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in ("absent.json", "absent.txt", f"{tmp_path}/absent"):
        with pytest.raises(FileNotFoundError, match="absent"):
            posepost.keypoint_scheme(path)


def test_importing_posepost_built_every_scheme() -> None:
    """They took 10 ms, whatever it was imported for."""
    code = "import posepost; from posepost.schemes import SCHEMES; print(dict(vars(SCHEMES)), len(SCHEMES))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{{}} {len(SCHEMES)}\n"
