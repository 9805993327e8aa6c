"""Scenes of jointed figures with exact keypoints, drawn with Pillow and NumPy.

A figure is a small 3-D mannequin seen without perspective: limbs swing about their joints, the body turns about its
long axis (back views too) and tilts in the picture. Its own left limbs are warm (red to yellow), its right limbs cool
(cyan to blue), whichever way it faces. Figures are built in units of the torso, from the shoulder line to the hip line.
"""

from __future__ import annotations

import argparse
import colorsys
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from posepost.schemes import SCHEMES

OUTSIDE, HIDDEN, VISIBLE = 0, 1, 2

# One stream of random numbers per purpose: default_rng([stream, index]). What is measured was never trained on.
TRAIN, EVALUATE, TEST, ASSETS = range(4)

CUT_SHARE = 0.25
_UNIT = 192  # side of the picture that the pixel sizes here are meant for
_LARGEST = (52.0, 44.0, 38.0, 33.0, 30.0, 28.0)  # torso with 1, 2, ... people
_LIMBS = {  # part: (from, to, hue of the left one, hue of the right one), hues in degrees
    "upper_arm": (5, 7, 342, 164),
    "forearm": (7, 9, 16, 192),
    "thigh": (11, 13, 37, 214),
    "shin": (13, 15, 57, 238),
}
_FACE = (  # nose, eyes, ears: radius in head radii, hue, saturation, value
    (0.13, 120, 0.85, 0.8),
    (0.17, 15, 0.9, 0.8),
    (0.17, 205, 0.9, 0.8),
    (0.24, 25, 0.85, 1.0),
    (0.24, 200, 0.85, 1.0),
)


class Scene(NamedTuple):
    """A picture and what is in it.

    image : (H, W, 3) uint8, RGB
    keypoints : (P, 17, 2) float32, (x, y) in pixels, the origin at the center of the top-left pixel
    visibility : (P, 17) uint8; 0 outside the picture, 1 inside but covered, 2 in sight
    """

    image: np.ndarray
    keypoints: np.ndarray
    visibility: np.ndarray


def draw(rng: np.random.Generator, people: int = 1, size: int = 192, cut: bool | None = None) -> Scene:
    """One square scene with 1 to 6 people. The same state of `rng` gives the same scene.

    `cut` says whether the border cuts the figures off (9 to 16 of the 17 keypoints stay inside); None leaves it to
    chance, one figure in four. Figures grow with `size`: torsos measure 18 to 52 pixels of 192.
    """
    if not 1 <= people <= len(_LARGEST):
        raise ValueError(f"people must be 1 to {len(_LARGEST)}, got {people}")
    poses = _place(rng, people, cut)
    scale = size / _UNIT
    image = _background(rng, size).resize((2 * size, 2 * size), Image.Resampling.BILINEAR)
    owner = Image.new("I", (size, size), 0)
    canvases = ((ImageDraw.Draw(image), 2 * scale), (ImageDraw.Draw(owner), scale))
    covered_by: list[frozenset[tuple[int, int]]] = [frozenset()]
    for person, (points, torso) in enumerate(poses):
        _figure(rng, canvases, covered_by, person, points, torso)
    keypoints = np.stack([points[:, :2] for points, _ in poses]).astype(np.float32)
    keypoints = (keypoints + np.float32(0.5)) * np.float32(scale) - np.float32(0.5)
    return Scene(_finish(rng, image.reduce(2)), keypoints, _visibility(keypoints, np.asarray(owner), covered_by))


def torso_length(keypoints: np.ndarray) -> np.ndarray:
    """(..., 17, 2) -> (...): mean distance from a shoulder to the hip of its side, in the units of the keypoints."""
    return np.linalg.norm(keypoints[..., [5, 6], :] - keypoints[..., [11, 12], :], axis=-1).mean(-1)


def _turn(x: float, z: float, yaw: float) -> tuple[float, float]:
    return x * math.cos(yaw) + z * math.sin(yaw), z * math.cos(yaw) - x * math.sin(yaw)


def _limb(abduction: float, flexion: float, side: int) -> np.ndarray:
    c = math.cos(flexion)
    return np.array([side * math.sin(abduction) * c, math.cos(abduction) * c, math.sin(flexion)])


def _pose(rng: np.random.Generator) -> np.ndarray:
    """(17, 3) joints in torso lengths: x to the right, y down, z towards the viewer; the hips' middle at the origin.

    No elbow, wrist, knee or ankle is behind its own torso or head, where nothing in the picture would tell its place.
    """
    while True:
        p = _upright(rng)
        x, y, z = p[[7, 8, 9, 10, 13, 14, 15, 16]].T
        hip, shoulder = abs(p[11, 0]), abs(p[5, 0])
        behind_trunk = (z < 0.05) & (y > -1.1) & (y < 0.1) & (np.abs(x) < hip + (hip - shoulder) * y + 0.08)
        head, radius = p[[3, 4], :2].mean(0), np.linalg.norm(p[3] - p[4]) / 2
        behind_head = (z < 0.15) & (np.hypot(x - head[0], y - head[1]) < radius + 0.05)
        if not (behind_trunk | behind_head).any():
            break
    tilt = rng.normal(0, 0.2) if rng.random() < 0.8 else rng.uniform(-1.4, 1.4)
    c, s = math.cos(tilt), math.sin(tilt)
    p[:, :2] = p[:, :2] @ np.array([[c, s], [-s, c]])
    return p


def _upright(rng: np.random.Generator) -> np.ndarray:
    p = np.zeros((17, 3))
    wide, hip = rng.uniform(0.3, 0.42), rng.uniform(0.17, 0.24)
    arm, leg = rng.uniform(0.54, 0.66), rng.uniform(0.72, 0.92)
    stride = rng.normal(0, 0.45)
    lively = rng.random() < 0.6
    for side, left in ((1, 0), (-1, 1)):
        shoulder, elbow, wrist, pelvis, knee, ankle = (i + left for i in (5, 7, 9, 11, 13, 15))
        p[shoulder] = side * wide, -1, 0
        p[pelvis] = side * hip, 0, 0
        abduction = rng.uniform(-0.2, 2.9) if lively else rng.uniform(0, 0.6)
        flexion = -side * stride + rng.normal(0, 0.3)
        bend = rng.uniform(-0.5, 2.2) if lively else rng.uniform(0, 0.7)
        forward = rng.uniform(0, 1.2)
        p[elbow] = p[shoulder] + arm * _limb(abduction, np.clip(flexion, -1.1, 1.1), side)
        bend *= rng.choice([1, 1, -0.6])
        p[wrist] = p[elbow] + 0.92 * arm * _limb(abduction + bend, np.clip(flexion + forward, -1.2, 1.2), side)
        abduction = rng.uniform(-0.1, 0.9) if lively and rng.random() < 0.6 else rng.uniform(0, 0.25)
        flexion = side * stride + rng.normal(0, 0.25)
        p[knee] = p[pelvis] + leg * _limb(abduction, np.clip(flexion, -1.0, 1.1), side)
        bend = rng.uniform(0, 1.3) if lively else rng.uniform(0, 0.4)
        abduction += rng.normal(0, 0.25)
        p[ankle] = p[knee] + 0.95 * leg * _limb(abduction, np.clip(flexion - bend, -1.2, 1.0), side)
    yaw = rng.normal(0, 0.6) + (math.pi if rng.random() < 0.3 else 0)
    for joint in p[5:]:
        joint[0], joint[2] = _turn(joint[0], joint[2], yaw)
    look, nod, radius = yaw + rng.normal(0, 0.3), rng.normal(0, 0.12), rng.uniform(0.27, 0.35)
    face = ((0, 0.1, 1), (0.42, -0.22, 0.88), (-0.42, -0.22, 0.88), (1, 0, 0), (-1, 0, 0))
    for i, (x, y, z) in enumerate(face):
        x, z = _turn(x, z, look)
        p[i] = x * radius, (y + nod * z) * radius - 1.2 - radius, z * radius
    return p


def _place(rng: np.random.Generator, people: int, cut: bool | None) -> list[tuple[np.ndarray, float]]:
    """[(joints (17, 3) in pixels, torso)]: people whose boxes overlap a little at most, the smaller (farther) first."""
    placed: list[tuple[np.ndarray, float]] = []
    boxes: list[np.ndarray] = []
    largest, tries = _LARGEST[people - 1], 0
    while len(placed) < people:
        wants_cut = rng.random() < CUT_SHARE if cut is None else cut
        while True:
            tries += 1
            torso = rng.uniform(18, max(19, largest - 0.2 * tries))
            joints = _pose(rng) * torso
            low, high = joints[:, :2].min(0) - 0.2 * torso, joints[:, :2].max(0) + 0.2 * torso
            if wants_cut:
                joints[:, :2] += rng.uniform(-0.3, 1.3, 2) * _UNIT
                inside = int((((joints[:, :2] >= 0) & (joints[:, :2] <= _UNIT - 1)).all(1)).sum())
                fits = 9 <= inside < 17
            else:
                room = _UNIT - 1 - (high - low)
                fits = bool((room >= 0).all())
                joints[:, :2] += rng.random(2) * np.maximum(room, 0) - low
            box = np.concatenate([joints[:, :2].min(0), joints[:, :2].max(0)])
            if fits and all(_overlap(box, other) < 0.12 for other in boxes):
                break
        boxes.append(box)
        placed.append((joints, torso))
    return sorted(placed, key=lambda item: item[1])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection of two boxes (left, top, right, bottom) over the smaller one."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if width <= 0 or height <= 0:
        return 0.0
    return float(width * height / min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])))


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    r, g, b = colorsys.hsv_to_rgb(hue / 360 % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return round(255 * r), round(255 * g), round(255 * b)


def _any_color(rng: np.random.Generator) -> tuple[int, int, int]:
    return _rgb(rng.uniform(0, 360), rng.uniform(0, 0.9) ** 1.5, rng.uniform(0.1, 1))


class _Part(NamedTuple):
    """What is drawn at one depth.

    A shape is ("disc", center, radius, color), ("taper", a, b, radius at a, radius at b, color) or
    ("area", corners, color). `shows`: the (person, keypoint) that are in sight where this part is on top.
    """

    depth: float
    shapes: list[tuple]
    shows: frozenset[tuple[int, int]]


class _Look(NamedTuple):
    thick: float
    outline: float
    dark: tuple[int, int, int]
    hue: float
    saturation: float
    value: float
    cloth: tuple[int, int, int]
    skin: tuple[int, int, int]
    hair: tuple[int, int, int]


def _figure(
    rng: np.random.Generator,
    canvases: tuple[tuple[ImageDraw.ImageDraw, float], ...],
    covered_by: list[frozenset[tuple[int, int]]],
    person: int,
    points: np.ndarray,
    torso: float,
) -> None:
    look = _Look(
        thick=rng.uniform(0.095, 0.135) * torso,
        outline=0.025 * torso + 0.4 if rng.random() < 0.5 else 0.0,
        dark=_rgb(rng.uniform(0, 360), 0.3, rng.uniform(0, 0.25)),
        hue=rng.normal(0, 4),
        saturation=rng.uniform(0.75, 1),
        value=rng.uniform(0.75, 1),
        cloth=_any_color(rng),
        skin=_rgb(rng.uniform(15, 40), rng.uniform(0.2, 0.6), rng.uniform(0.35, 1)),
        hair=_rgb(rng.uniform(0, 50), rng.uniform(0, 0.7), rng.uniform(0.05, 0.7)),
    )
    parts = [part for draw_some in (_limbs, _trunk, _head) for part in draw_some(look, person, points, torso)]
    for part in sorted(parts, key=lambda part: part.depth):
        covered_by.append(part.shows)
        for shape in part.shapes:
            for number, (canvas, scale) in enumerate(canvases):
                _stroke(canvas, scale, shape, len(covered_by) - 1 if number else shape[-1])


def _limbs(look: _Look, person: int, points: np.ndarray, torso: float) -> list[_Part]:
    parts = []
    xy, saturation, value = points[:, :2], look.saturation, look.value
    for a, b, *hues in _LIMBS.values():
        for left in (0, 1):
            i, j = a + left, b + left
            hue = hues[left] + look.hue
            fat, starts = look.thick * (1.25 if a >= 11 else 1.0), a in (5, 11)
            ra, rb = (fat, 0.85 * fat) if starts else (0.85 * fat, 0.65 * fat)
            root, middle, tip = (
                _rgb(hue, s * saturation, v * value) for s, v in ((0.5, 1.0), (1.0, 0.45), (0.25, 1.0))
            )
            shapes: list[tuple] = []
            if look.outline:
                shapes.append(("taper", xy[i], xy[j], ra + look.outline, rb + look.outline, look.dark))
            shapes += [
                ("taper", xy[i], xy[j], ra, rb, _rgb(hue, saturation, 0.85 * value)),
                ("disc", xy[i], 0.6 * ra, root if starts else middle),
                ("disc", xy[j], (0.7 if starts else 0.85) * rb, middle if starts else tip),
            ]
            depth = (points[i, 2] + points[j, 2]) / 2 + 0.1 * torso
            parts.append(_Part(depth, shapes, frozenset({(person, i), (person, j)})))
    return parts


def _trunk(look: _Look, person: int, points: np.ndarray, torso: float) -> list[_Part]:
    """A torso, and pins of the side's color that hold the limbs: the root of a limb behind it stays in sight."""
    xy, thick = points[:, :2], look.thick
    sides = [(xy[a], xy[b], thick) for a, b in ((5, 6), (12, 11), (5, 11), (6, 12))]
    sides.append((xy[[5, 6]].mean(0), xy[[11, 12]].mean(0), 1.6 * thick))
    shapes: list[tuple] = []
    if look.outline:
        shapes += [("taper", a, b, r + look.outline, r + look.outline, look.dark) for a, b, r in sides]
    shapes += [("taper", a, b, r, r, look.cloth) for a, b, r in sides]
    shapes.append(("area", xy[[5, 6, 12, 11]], look.cloth))
    parts = [_Part(0.0, shapes, frozenset())]
    for i in (5, 6, 11, 12):
        hues = _LIMBS["upper_arm" if i < 11 else "thigh"][2:]
        pin = _rgb(hues[1 - i % 2] + look.hue, 0.8 * look.saturation, look.value)
        depth = 1e-4 * (torso + points[i, 2])
        parts.append(_Part(depth, [("disc", xy[i], 0.5 * thick, pin)], frozenset({(person, i)})))
    return parts


def _head(look: _Look, person: int, points: np.ndarray, torso: float) -> list[_Part]:
    """Neck, head and on top of it what faces the viewer; always the ears, whose colors tell which way a head looks."""
    xy, depth = points[:, :2], 0.12 * torso
    shoulders, hips, center = xy[[5, 6]].mean(0), xy[[11, 12]].mean(0), xy[[3, 4]].mean(0)
    up = (shoulders - hips) / np.linalg.norm(shoulders - hips)
    radius = float(np.linalg.norm(points[3] - points[4]) / 2)
    facing = points[0, 2] > 0
    shapes: list[tuple] = [("taper", shoulders, center, 0.7 * look.thick, 0.7 * look.thick, look.skin)]
    if look.outline:
        shapes.append(("disc", center, radius + look.outline, look.dark))
    shapes.append(("disc", center, radius, look.skin if facing else look.hair))
    if facing:
        low, high = center + 0.72 * radius * up, center + 0.78 * radius * up
        shapes.append(("taper", low, high, 0.35 * radius, 0.2 * radius, look.hair))
    parts = [_Part(depth, shapes, frozenset())]
    for i, (size, hue, saturation, value) in enumerate(_FACE):
        ear = i in (3, 4)
        if ear or points[i, 2] > -0.15 * radius:
            fill = _rgb(hue + look.hue, saturation * look.saturation, value * look.value)
            over = -1e-3 if ear and points[i, 2] < -0.3 * radius else 1e-3 + 1e-4 * i
            parts.append(_Part(depth + over, [("disc", xy[i], size * radius, fill)], frozenset({(person, i)})))
    return parts


def _stroke(canvas: ImageDraw.ImageDraw, scale: float, shape: tuple, fill: object) -> None:
    """Pillow truncates coordinates, so they are rounded here: the pixel center convention holds on either canvas."""

    def at(point: np.ndarray) -> tuple[float, float]:
        return (point[0] + 0.5) * scale - 0.5, (point[1] + 0.5) * scale - 0.5

    def disc(center: np.ndarray, radius: float) -> None:
        (x, y), r = at(center), radius * scale
        canvas.ellipse((round(x - r), round(y - r), round(x + r), round(y + r)), fill=fill)

    if shape[0] == "disc":
        disc(shape[1], shape[2])
    elif shape[0] == "area":
        canvas.polygon([(round(x), round(y)) for x, y in map(at, shape[1])], fill=fill)
    else:
        a, b, ra, rb = shape[1:5]
        dx, dy = b[0] - a[0], b[1] - a[1]
        length = math.hypot(dx, dy) or 1.0
        nx, ny = -dy / length, dx / length
        corners = [(a[0] + ra * nx, a[1] + ra * ny), (b[0] + rb * nx, b[1] + rb * ny)]
        corners += [(b[0] - rb * nx, b[1] - rb * ny), (a[0] - ra * nx, a[1] - ra * ny)]
        canvas.polygon([(round(x), round(y)) for x, y in map(at, corners)], fill=fill)
        disc(a, ra)
        disc(b, rb)


def _visibility(keypoints: np.ndarray, owner: np.ndarray, covered_by: list[frozenset[tuple[int, int]]]) -> np.ndarray:
    size = owner.shape[0]
    flags = np.full(keypoints.shape[:2], OUTSIDE, np.uint8)
    for person, joint in np.argwhere(((keypoints >= 0) & (keypoints <= size - 1)).all(-1)):
        x, y = np.rint(keypoints[person, joint]).astype(int)
        flags[person, joint] = VISIBLE if (person, joint) in covered_by[owner[y, x]] else HIDDEN
    return flags


def _background(rng: np.random.Generator, size: int) -> Image.Image:
    kind = rng.integers(5)
    if kind == 0:
        image = Image.new("RGB", (size, size), _any_color(rng))
    elif kind == 1:
        corners = np.array([[_any_color(rng) for _ in range(2)] for _ in range(2)], np.uint8)
        image = Image.fromarray(corners).resize((size, size), Image.Resampling.BILINEAR)
    elif kind == 2:
        cells = int(rng.integers(3, 40))
        noise = rng.normal(128, rng.uniform(15, 60), (cells, cells, 3)) * rng.uniform(0.5, 1.2, 3)
        how = (Image.Resampling.BICUBIC, Image.Resampling.NEAREST)[rng.integers(2)]
        image = Image.fromarray(noise.clip(0, 255).astype(np.uint8)).resize((size, size), how)
    else:
        angle, period = rng.uniform(0, math.pi), rng.uniform(6, 40) * size / _UNIT
        axis = np.arange(size, dtype=np.float32)
        wave = np.sin((axis * math.cos(angle))[:, None] * (6.28 / period) + axis * math.sin(angle) * (6.28 / period))
        if kind == 4:
            wave = np.sign(wave)
        a, b = (np.array(_any_color(rng), np.float32) for _ in range(2))
        image = Image.fromarray((a + (b - a) * (wave[..., None] * 0.5 + 0.5)).astype(np.uint8))
    canvas = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 14)) if rng.random() < 0.8 else 0):
        x, y = rng.uniform(-0.1, 1.1, 2) * size
        w, h = rng.uniform(0.02, 0.35, 2) * size
        bright = rng.random() < 0.5
        fill = _rgb(*(rng.uniform(*span) for span in ((0, 360), (0.3, 1), (0.3, 1)))) if bright else _any_color(rng)
        shape = rng.integers(4)
        if shape == 0:
            canvas.rectangle((x, y, x + w, y + h), fill=fill)
        elif shape == 1:
            canvas.ellipse((x, y, x + w, y + h), fill=fill)
        elif shape == 2:
            canvas.polygon([tuple(rng.uniform(-0.2, 0.2, 2) * size + (x, y)) for _ in range(3)], fill=fill)
        else:
            end = rng.uniform(0, 1, 2) * size
            canvas.line((x, y, *end), fill=fill, width=max(1, int(rng.uniform(1, 9) * size / _UNIT)))
    return image


def _finish(rng: np.random.Generator, image: Image.Image) -> np.ndarray:
    """Blur, gain, shift of the tones and noise, each now and then."""
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9) * image.width / _UNIT))
    pixels = np.asarray(image, np.float32) * np.float32(rng.uniform(0.7, 1.1)) + np.float32(rng.uniform(-10, 25))
    if rng.random() < 0.5:
        pixels += rng.standard_normal(pixels.shape, np.float32) * np.float32(rng.uniform(2, 12))
    return np.rint(pixels.clip(0, 255)).astype(np.uint8)


def write(scene: Scene, path: Path) -> None:
    """The picture as PNG, and what is in it as JSON beside it."""
    people = [
        {"keypoints": np.round(points.astype(float), 3).tolist(), "visibility": flags.tolist()}
        for points, flags in zip(scene.keypoints, scene.visibility, strict=True)
    ]
    lines = ",\n".join(json.dumps(person) for person in people)
    height, width = scene.image.shape[:2]
    size = f'"width": {width}, "height": {height}, "names": {json.dumps(SCHEMES["coco"].keypoints)}'
    path.with_suffix(".json").write_text(f'{{{size}, "people": [\n{lines}\n]}}\n')
    Image.fromarray(scene.image).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the two bundled scenes, scene.png and crowd.png.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, people, index in (("scene", 1, 372), ("crowd", 5, 5)):
        write(draw(np.random.default_rng([ASSETS, index]), people, cut=False), folder / f"{name}.png")


if __name__ == "__main__":
    main()
