"""The bundled model and the scenes it was trained on."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL", reason="scenes are drawn with Pillow: pip install posepost[ort]")

from PIL import Image, ImageDraw

from examples.bundled_model import scenes
from posepost.schemes import SCHEMES

ASSETS = Path(__file__).resolve().parents[2] / "posepost" / "assets"
LEFT, RIGHT = list(range(5, 17, 2)), list(range(6, 17, 2))
needs_onnxruntime = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None,
    reason="the bundled model runs in onnxruntime: pip install posepost[ort]",
)


def drawn(index: int, people: int = 1, **options: object) -> scenes.Scene:
    return scenes.draw(np.random.default_rng([scenes.TEST, index]), people, **options)


def tones(image: np.ndarray, keypoints: np.ndarray, visibility: np.ndarray, joints: list[int]) -> np.ndarray:
    """Red minus blue at those joints of all people that are in sight."""
    points = np.rint(keypoints[:, joints][visibility[:, joints] == scenes.VISIBLE]).astype(int)
    pixels = image[points[:, 1], points[:, 0]].astype(int)
    return pixels[:, 0] - pixels[:, 2]


def test_same_seed_same_scene() -> None:
    for people in (1, 6):
        first, again, other = drawn(3, people), drawn(3, people), drawn(4, people)
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(first.image, other.image)
        assert not np.array_equal(first.keypoints, other.keypoints)


@pytest.mark.parametrize("people", [1, 2, 3, 4, 5, 6])
def test_shapes_and_types(people: int) -> None:
    scene = drawn(10, people, size=160)
    assert (scene.image.shape, scene.image.dtype) == ((160, 160, 3), np.uint8)
    assert (scene.keypoints.shape, scene.keypoints.dtype) == ((people, 17, 2), np.float32)
    assert (scene.visibility.shape, scene.visibility.dtype) == ((people, 17), np.uint8)


@pytest.mark.parametrize("people", [0, 7])
def test_number_of_people_is_checked(people: int) -> None:
    with pytest.raises(ValueError, match=f"^people must be 1 to 6, got {people}$"):
        drawn(0, people)


def test_keypoints_lie_on_limbs_of_their_side() -> None:
    cast = [drawn(i, 1 + i % 6) for i in range(60)]
    for joints, sign in ((LEFT, 1), (RIGHT, -1)):
        found = np.concatenate([tones(*scene, joints) for scene in cast])
        assert len(found) > 900
        assert (sign * found > 0).mean() > 0.98
        astray = np.concatenate([tones(s.image, np.clip(s.keypoints + 12, 0, 191), s.visibility, joints) for s in cast])
        assert (sign * astray > 0).mean() < 0.75


def test_drawing_keeps_the_pixel_convention() -> None:
    """Pixel 0 spans -0.5 to 0.5: the mean place of what is drawn about a point is that point, without bias."""
    rng, offs = np.random.default_rng(0), []
    axis = np.arange(64)
    for i in range(200):
        a, b = rng.uniform(16, 48, (2, 2))
        shape = ("disc", a, 6.0, 255) if i % 2 else ("taper", a, b, 3.0, 3.0, 255)
        image = Image.new("L", (128, 128))
        scenes._stroke(ImageDraw.Draw(image), 2, shape, 255)
        weight = np.asarray(image.reduce(2), float)
        center = np.array([(weight.sum(0) * axis).sum(), (weight.sum(1) * axis).sum()]) / weight.sum()
        offs.append(center - (a if i % 2 else (a + b) / 2))
    assert np.abs(offs).max() < 0.35
    assert np.abs(np.mean(offs, 0)).max() < 0.05


def test_left_is_on_the_right_of_who_faces_us_and_on_the_left_of_who_does_not() -> None:
    facing, away = [], []
    for i in range(80):
        scene = drawn(i, cut=False)
        points, seen = scene.keypoints[0], scene.visibility[0, :3] == scenes.VISIBLE
        across = points[5] - points[6]
        down = points[[11, 12]].mean(0) - points[[5, 6]].mean(0)
        side = float(across[0] * down[1] - across[1] * down[0]) / scenes.torso_length(points) ** 2
        if abs(side) > 0.35 and seen.all():
            facing.append(side)
        elif abs(side) > 0.35 and not seen.any():
            away.append(side)
    assert len(facing) > 20
    assert len(away) > 8
    assert min(facing) > 0
    assert max(away) < 0


def test_the_border_cuts_figures_off() -> None:
    chance = np.concatenate([drawn(i, 1 + i % 3).visibility for i in range(80)])
    assert 0.12 < (chance == scenes.OUTSIDE).any(1).mean() < 0.4
    for i in range(12):
        cut, whole = drawn(i, 1 + i % 3, cut=True), drawn(i, 1 + i % 3, cut=False)
        outside = ((cut.keypoints < 0) | (cut.keypoints > 191)).any(-1)
        np.testing.assert_array_equal(outside, cut.visibility == scenes.OUTSIDE)
        assert ((outside.sum(1) >= 1) & (outside.sum(1) <= 8)).all()
        assert (whole.visibility != scenes.OUTSIDE).all()


def test_figures_grow_with_the_picture() -> None:
    small, large = drawn(5, 2, size=192), drawn(5, 2, size=384)
    np.testing.assert_allclose((small.keypoints + 0.5) * 2 - 0.5, large.keypoints, atol=1e-3)
    assert large.image.shape == (384, 384, 3)


def test_figures_vary() -> None:
    cast = [drawn(i, cut=False) for i in range(80)]
    torsos = np.array([scenes.torso_length(scene.keypoints[0]) for scene in cast])
    assert torsos.min() < 22
    assert torsos.max() > 44
    down = np.array([scene.keypoints[0, 11:13].mean(0) - scene.keypoints[0, 5:7].mean(0) for scene in cast])
    tilt = np.abs(np.degrees(np.arctan2(down[:, 0], down[:, 1])))
    assert (tilt > 30).sum() >= 3
    assert np.median(tilt) < 20
    assert len({tuple(scene.image[0, 0]) for scene in cast}) > 60


@pytest.fixture(scope="module")
def session() -> object:
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(ASSETS / "figures.onnx", providers=["CPUExecutionProvider"])


def run(session: object, images: np.ndarray) -> dict[str, np.ndarray]:
    x = (images.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, {"image": x}), strict=True))


@needs_onnxruntime
def test_model_is_what_it_promises(session: object) -> None:
    assert (ASSETS / "figures.onnx").stat().st_size < 1_200_000
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(float)", ["batch", 3, "height", "width"])
    channels = {"heatmaps": 17, "offsets": 34, "displacement_fwd": 32, "displacement_bwd": 32}
    assert {output.name: output.shape for output in session.get_outputs()} == {
        name: ["batch", count, "rows", "columns"] for name, count in channels.items()
    }
    assert {output.type for output in session.get_outputs()} == {"tensor(float)"}
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["posepost.mean"] == "127.5"
    assert metadata["posepost.std"] == "127.5"
    assert metadata["posepost.output_stride"] == "8"
    assert metadata["posepost.input_size"] == "192,192"
    assert tuple(metadata["posepost.keypoints"].split(",")) == SCHEMES["coco"].keypoints
    assert "Drawn figures only" in metadata["posepost.knows"]


def test_weights_are_stored_in_half_precision() -> None:
    onnx = pytest.importorskip("onnx", reason="reads the file: pip install posepost[ort]")
    weights = onnx.load(ASSETS / "figures.onnx").graph.initializer
    assert {weight.data_type for weight in weights} == {onnx.TensorProto.FLOAT16}
    assert 400_000 < sum(np.prod(weight.dims) for weight in weights) < 560_000


@needs_onnxruntime
@pytest.mark.parametrize("shape", [(192, 192), (200, 257), (64, 321), (1, 9)])
def test_model_takes_any_size_and_batch(session: object, shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape, 3), np.uint8)
    together = run(session, images)
    rows, columns = (-(-side // 8) for side in shape)
    assert together["heatmaps"].shape == (3, 17, rows, columns)
    for name, alone in run(session, images[1:2]).items():
        np.testing.assert_allclose(alone[0], together[name][1], rtol=1e-3, atol=2e-3)


@needs_onnxruntime
def test_model_finds_the_joints_of_one_figure() -> None:
    from examples.bundled_model import evaluate

    errors = evaluate.measure(ASSETS / "figures.onnx", 60, stream=scenes.TEST)
    assert errors.cut.any()
    assert not errors.cut.all()
    assert errors.pck(0.2) >= 0.98
    assert errors.pck(0.1) >= 0.90


@needs_onnxruntime
def test_displacements_lead_along_the_edges(session: object) -> None:
    parents = [0, 1, 0, 2, 0, 5, 7, 5, 11, 13, 0, 6, 8, 6, 12, 14]
    children = [1, 3, 2, 4, 5, 7, 9, 11, 13, 15, 6, 8, 10, 12, 14, 16]
    cast = [drawn(i, cut=False) for i in range(100, 140)]
    outputs = run(session, np.stack([scene.image for scene in cast]))
    truth = np.concatenate([scene.keypoints for scene in cast])
    row = np.arange(len(cast))[:, None]
    for name, start, end in (("displacement_fwd", parents, children), ("displacement_bwd", children, parents)):
        cell = np.rint(truth[:, start] / 8).astype(int).clip(0, 23)
        edges = np.arange(16)
        step = [outputs[name][row, edges + first, cell[..., 1], cell[..., 0]] for first in (16, 0)]
        miss = np.linalg.norm(truth[:, start] + np.stack(step, -1) - truth[:, end], axis=-1)
        assert (miss / scenes.torso_length(truth)[:, None] < 0.3).mean() > 0.9


@needs_onnxruntime
@pytest.mark.parametrize(("name", "people"), [("scene", 1), ("crowd", 5)])
def test_bundled_scenes(session: object, name: str, people: int) -> None:
    image = np.asarray(Image.open(ASSETS / f"{name}.png"))
    truth = json.loads((ASSETS / f"{name}.json").read_text())
    assert image.shape == (truth["height"], truth["width"], 3) == (192, 192, 3)
    assert tuple(truth["names"]) == SCHEMES["coco"].keypoints
    keypoints = np.array([person["keypoints"] for person in truth["people"]])
    visibility = np.array([person["visibility"] for person in truth["people"]])
    assert keypoints.shape == (people, 17, 2)
    assert (visibility != scenes.OUTSIDE).all()
    assert (tones(image, keypoints, visibility, LEFT) > 0).mean() > 0.9
    assert (tones(image, keypoints, visibility, RIGHT) < 0).mean() > 0.9
    outputs = run(session, image[None])
    cells = np.rint(keypoints / 8).astype(int).clip(0, 23)
    k = np.arange(17)
    at = 8 * cells + np.stack([outputs["offsets"][0, k + first, cells[..., 1], cells[..., 0]] for first in (17, 0)], -1)
    miss = np.linalg.norm(at - keypoints, axis=-1) / scenes.torso_length(keypoints)[:, None]
    assert (miss < 0.2).mean() > 0.97
    assert (outputs["heatmaps"][0, k, cells[..., 1], cells[..., 0]] > 0).mean() > 0.9


SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000


@pytest.fixture(scope="module")
def crowds() -> object:
    pytest.importorskip("onnxruntime", reason="the bundled model runs in onnxruntime: pip install posepost[ort]")
    pytest.importorskip("pycocotools", reason="OKS is computed by pycocotools: pip install posepost[bench]")
    from examples.bundled_model import evaluate_crowds

    return evaluate_crowds


def at_oks(points: np.ndarray, flags: np.ndarray, wanted: float) -> np.ndarray:
    """One person's joints, all moved to the right so far that OKS is `wanted`; those outside the picture, anywhere."""
    inside = flags != scenes.OUTSIDE
    area = 0.53 * np.prod(np.ptp(points[inside].astype(float), axis=0))
    near, far = 0.0, 192.0
    for _ in range(60):
        middle = (near + far) / 2
        oks = np.exp(-(middle**2) / (2 * area * (2 * SIGMAS[inside]) ** 2)).mean()
        near, far = (middle, far) if oks > wanted else (near, middle)
    return np.where(inside[:, None], points.astype(float) + np.array([near, 0]), 1e4)


def test_crowd_metric_has_the_value_that_the_definition_gives(crowds: object) -> None:
    cast = crowds.draw(24, stream=scenes.TEST)
    assert any((scene.visibility == scenes.OUTSIDE).any() for scene in cast)
    people = sum(len(scene.keypoints) for scene in cast)

    def score(wanted: float, copies: int = 1) -> object:
        found = []
        for scene in cast:
            moved = [at_oks(*person, wanted) for person in zip(scene.keypoints, scene.visibility, strict=True)]
            found.append(crowds.Found(np.array(moved * copies), np.ones(len(moved) * copies)))
        return crowds.score(cast, found)

    ones = dict.fromkeys(("ap", "ap50", "ap75", "ar", "recall", "precision", "counted"), 1.0)
    for wanted, passed in ((1.0, 10), (0.96, 10), (0.77, 6), (0.73, 5), (0.51, 1), (0.49, 0)):
        share = {"ap": passed / 10, "ar": passed / 10, "ap75": float(passed >= 6)}
        share |= dict.fromkeys(("ap50", "recall", "precision"), float(passed > 0))
        expected = {**ones, **share, "people": people, "poses": people}
        assert score(wanted)._asdict() == pytest.approx(expected, abs=1e-9)
    twice = score(1.0, copies=2)
    assert (twice.recall, twice.precision, twice.counted) == (1.0, 0.5, 0.0)
    nobody = crowds.Found(np.empty((0, 17, 2)), np.empty(0))
    assert crowds.score(cast, [nobody] * 24) == crowds.Result(*[0.0] * 7, people=people, poses=0)


def test_model_finds_everybody(crowds: object) -> None:
    cast = crowds.draw(30, stream=scenes.TEST)
    assert {len(scene.keypoints) for scene in cast} == {1, 2, 3, 4, 5, 6}
    result = crowds.score(cast, crowds.find(ASSETS / "figures.onnx", cast))
    assert result.recall >= 0.95
    assert result.precision >= 0.95
