"""The command `posepost`: demo, inspect, run, warmup, bench, doctor.

`posepost run` writes two files an image: NAME.overlay.png, the picture with the keypoints on it, and NAME.json:

    {
      "image": "photo.jpg",             as given on the command line
      "width": 640, "height": 480,      of the image, in pixels, turned upright
      "model": "posenet.onnx",
      "input_size": [353, 481],         height, width of the network's input
      "device": "cpu",                  or "cuda"
      "poses": [                        one entry a person; none where nobody was found
        {
          "score": 0.98,                of the person, see below
          "keypoints": [{"name": "nose", "x": 267.9, "y": 127.8, "score": 0.99}, ...]
        }
      ]
    }

A model with displacement heads finds everybody (--people all): up to 20 people in the order and with the scores of
`decode_posenet_multi` in mode "tfjs", without those that score less than --score. Such a score is the mean of the
keypoints' scores with 0 for each keypoint that an earlier person has. Other models, and --people one, find one person,
however unlikely, whose score is the mean of the keypoints' scores.

A model with heatmaps or SimCC sees one person a crop. --box or --boxes tell where people are, else the whole image is
one box; "poses" then has one entry a box, in their order and whatever the score, which is the mean of the keypoints'
scores, with the box as it was given: "box": [x0, y0, x1, y1]. --boxes names a JSON file for many images, by the names
of the images as given on the command line, or without their directories:

    {"photo.jpg": [[x0, y0, x1, y1], ...], "other.jpg": []}

x and y are pixels of the image, x to the right and y down; a number that is not finite is null. NAME is the image's
file name without its suffix, with -2, -3, ... after it where that name is taken. Files appear whole or not at all.

Exit status: 0, or 2 with a line on stderr for each thing that went wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import importlib.util
import io
import json
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

if TYPE_CHECKING:
    from PIL import Image as PILImage

    from posepost.ort import PoseSession, TopDownSession
    from posepost.types import Poses

ASSETS = Path(__file__).parent / "assets"
LEAST_SCORE = 0.25  # of a person, where nothing else is asked for
SHOWN = 0.3  # least score of a keypoint that is drawn
KERNELS = {  # sources, by what `recognise` finds
    "posenet": ("posenet.cu", "posenet_multi.cu", "peaks.cu"),
    "heatmap": ("heatmap.cu", "peaks.cu"),
    "simcc": ("simcc.cu",),
}
EXPECTED = (OSError, ValueError, RuntimeError, ImportError, MemoryError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _complain(str(message))  # type: ignore[assignment,unused-ignore]
        try:
            status: int = arguments.command(arguments)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except EXPECTED as error:
            _complain(_message(error))
            return 2
    return status


def demo(arguments: argparse.Namespace) -> int:
    """Run the bundled model on two bundled scenes, one figure and several; print what came out, write the pictures."""
    from posepost.ort import PoseSession

    folder = _folder(arguments.output)
    session = PoseSession(ASSETS / "figures.onnx")
    _demo_one(session, folder)
    print()
    _demo_several(session, folder)
    return 0


def _demo_one(session: PoseSession, folder: Path) -> None:
    from posepost.draw import heatmap_picture, overlay

    image, images, transform = _scene(session, "scene.png")
    print(_ran_on(session))
    result = session.run(images, transform=transform).numpy()
    heatmaps, offsets = _maps(session, images, ("heatmaps", "offsets"))

    model = session.model
    print(f"\n{'keypoint':<16}{'x':>8}{'y':>8}{'score':>8}")
    for name, (x, y), score in zip(model.keypoints, result.keypoints[0], result.scores[0]):
        print(f"{name:<16}{x:>8.1f}{y:>8.1f}{score:>8.3f}")
    print(f"\n{_saved(session, 'keypoints', result, 'heatmaps and offsets', (heatmaps, offsets))}")

    best = int(np.argmax(result.scores[0]))
    heatmap = (heatmaps[0].transpose(2, 0, 1) if model.layout == "NHWC" else heatmaps[0])[best].astype(np.float32)
    if model.activation == "sigmoid":
        heatmap = 1 / (1 + np.exp(-heatmap))
    paths = [folder / "overlay.png", folder / "heatmap.png"]
    pictures = [
        overlay(image, result.keypoints, result.scores, min_score=SHOWN, scale=_enlarged(image)),
        heatmap_picture(heatmap),
    ]
    _write({path: _png(picture) for path, picture in zip(paths, pictures)})
    print(f"wrote {paths[0]} and {paths[1]} (the heatmap of {model.keypoints[best]})")


def _demo_several(session: PoseSession, folder: Path) -> None:
    from posepost.draw import overlay
    from posepost.ort import HEADS

    image, images, transform = _scene(session, "crowd.png")
    poses = session.run_multi(images, transform=transform).numpy()
    found = _above(poses, LEAST_SCORE)
    print()
    for number, (scores, score) in enumerate(zip(found.keypoint_scores, found.scores), 1):
        shown = f"{(scores >= SHOWN).sum()} of {len(scores)} keypoints"
        print(f"person {number:<3} score {score:.3f}, {shown} score at least {SHOWN}")
    print(f"\n{_saved(session, 'poses', poses, 'the four heads', _maps(session, images, HEADS))}")
    path = folder / "crowd.png"
    drawn = overlay(image, found.keypoints, found.keypoint_scores, min_score=SHOWN, scale=_enlarged(image))
    _write({path: _png(drawn)})
    print(f"wrote {path} (one colour a person)")


def _scene(session: PoseSession, name: str) -> tuple[PILImage.Image, Any, Any]:
    """A bundled picture, the network's input and the transform back; says so."""
    from posepost._image import read_image

    image = read_image(ASSETS / name)
    images, transform = session.letterbox(image)
    height, width = images.shape[1:3] if session.model.input_layout == "NHWC" else images.shape[2:]
    print(f"figures.onnx on {name} ({image.width}x{image.height}, network input {width}x{height})")
    return image, images, transform


def _saved(session: PoseSession, what: str, result: Sequence[Any], of: str, maps: Sequence[Any]) -> str:
    crossing, kept = (sum(array.nbytes for array in arrays) for arrays in (result, maps))
    crossed = "crossed" if session.device == "cuda" else "would cross"
    return (
        f"{crossing} bytes of {what} {crossed} the bus of a GPU, in place of {kept} bytes of {of} "
        f"({kept / crossing:.0f} times as many)"
    )


def _enlarged(image: PILImage.Image) -> int:
    return max(1, 768 // max(image.size))


def inspect(arguments: argparse.Namespace) -> int:
    """Print what a model's graph tells."""
    from posepost.ort import describe, read_model, read_topdown, recognise

    kind = recognise(arguments.model, heads=arguments.heads, layout=arguments.layout).kind
    _check_options(arguments, kind)
    if kind == "posenet":
        print(describe(read_model(arguments.model, **_options(arguments), output_stride=arguments.stride)))
    else:
        print(describe(read_topdown(arguments.model, **_options(arguments), preset=arguments.preset)))
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Keypoints and overlay of every image; one bad image does not keep the others from being done."""
    from posepost.ort import recognise

    kind = recognise(arguments.model, heads=arguments.heads, layout=arguments.layout).kind
    _check_options(arguments, kind)
    session, find = _whole_images(arguments) if kind == "posenet" else _crops(arguments)
    folder = _folder(arguments.output)
    print(_ran_on(session))
    status = 0
    for path, name in zip(arguments.images, output_names(arguments.images, folder)):
        try:
            files, found = _one_image(session, path, folder / name, arguments.size, find)
            _write(files)
        except EXPECTED as error:
            text = _message(error)
            _complain(text if text.startswith(f"{path}:") else f"{path}: {text}")
            status = 2
        else:
            print(f"{path}: {found}, wrote {' and '.join(str(file) for file in files)}")
    return status


Find = Callable[[str, "PILImage.Image"], "tuple[People, str]"]
"""The people in one image, given by path and as a picture, and what was found in a few words."""


def _whole_images(arguments: argparse.Namespace) -> tuple[PoseSession, Find]:
    """A model of the PoseNet kind, which sees whole images."""
    from posepost.ort import PoseSession, input_size, several_people_problem

    session = PoseSession(
        arguments.model, **_options(arguments), output_stride=arguments.stride, skeleton=arguments.skeleton
    )
    input_size(session.model, arguments.size)
    problem = several_people_problem(session.model, arguments.skeleton)
    wanted = arguments.people or ("all" if problem is None or arguments.score is not None else "one")
    if wanted == "all" and problem is not None:
        raise ValueError(problem)
    if wanted == "one" and arguments.score is not None:
        raise ValueError("--score is for --people all, got --people one")
    least = LEAST_SCORE if arguments.score is None else arguments.score

    def find(path: str, image: PILImage.Image) -> tuple[People, str]:
        images, transform = session.letterbox(image, arguments.size)
        if wanted == "one":
            points, scores = session.run(images, transform=transform).numpy()
            people = People(points, scores, scores.mean(axis=1, dtype=np.float64))
            return people, f"score {people.scores[0]:.3f}"
        people = _above(session.run_multi(images, transform=transform).numpy(), least)
        return people, _counted(people)

    return session, find


def _crops(arguments: argparse.Namespace) -> tuple[TopDownSession, Find]:
    """A model with heatmaps or SimCC, which sees a crop of each box."""
    from posepost.ort import TopDownSession, input_size

    boxes = _boxes(arguments)
    session = TopDownSession(
        arguments.model, **_options(arguments), preset=arguments.preset, flip_pairs=arguments.flip_pairs
    )
    input_size(session.model, arguments.size)
    flip = arguments.flip or arguments.flip_pairs is not None
    if flip and session.model.keypoint_count is not None:
        session.flip_pairs(session.model.keypoint_count)
    padding = {} if arguments.padding is None else {"padding": arguments.padding}

    def find(path: str, image: PILImage.Image) -> tuple[People, str]:
        there = boxes.get(path, [[0, 0, image.width, image.height]])
        images, transforms = session.crop(image, there, size=arguments.size, **padding)
        points, scores = session.run(images, transform=transforms, flip=flip).numpy()
        people = People(points, scores, scores.mean(axis=1, dtype=np.float64), there)
        return people, _counted(people)

    return session, find


def _boxes(arguments: argparse.Namespace) -> dict[str, list[list[float]]]:
    """The boxes of each image that has some named, by its path."""
    if arguments.box is not None and arguments.boxes is not None:
        raise ValueError("--box and --boxes must not be given together, got both")
    if arguments.box is not None:
        if len(arguments.images) > 1:
            raise ValueError(f"--box is for one image, got {len(arguments.images)}; --boxes names a file for many")
        return {arguments.images[0]: arguments.box}
    if arguments.boxes is None:
        return {}
    where = f"--boxes {arguments.boxes}"
    try:
        document = json.loads(Path(arguments.boxes).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where} must be a JSON file, got {_message(error)}") from None
    if not isinstance(document, dict):
        raise ValueError(f'{where} must hold {{"IMAGE": [[x0, y0, x1, y1], ...], ...}}, got {_short(document)}')
    found = {}
    for path in arguments.images:
        names = [name for name in (path, os.path.basename(path)) if name in document]
        if not names:
            raise ValueError(f"{where} must have the boxes of each image, got none for {path}")
        found[path] = rows = document[names[0]]
        if not isinstance(rows, list) or not all(_is_box(row) for row in rows):
            raise ValueError(f"{where} must hold [[x0, y0, x1, y1], ...] for {path}, got {_short(rows)}")
    return found


def _is_box(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 4
        and all(type(value) in (int, float) and -1e300 < value < 1e300 for value in row)
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _counted(people: People) -> str:
    return f"{len(people.scores)} {'person' if len(people.scores) == 1 else 'people'}"


def _check_options(arguments: argparse.Namespace, kind: str) -> None:
    """No option is for the other kind of model."""
    whole, crops = (
        ("stride", "people", "score", "skeleton"),
        ("preset", "box", "boxes", "padding", "flip", "flip_pairs"),
    )
    for name in crops if kind == "posenet" else whole:
        if getattr(arguments, name, None) not in (None, False):
            option = f"--{name.replace('_', '-')}"
            head = {"posenet": "PoseNet heads", "heatmap": "heatmaps alone", "simcc": "SimCC heads"}[kind]
            others = "heatmaps alone or SimCC heads" if kind == "posenet" else "PoseNet heads"
            raise ValueError(f"{option} is for models with {others}, got {arguments.model} with {head}")


def warmup(arguments: argparse.Namespace) -> int:
    """Compile the kernels that a model needs, or all, so that the first call finds them in CuPy's disk cache."""
    from posepost import _kernels
    from posepost.ort import cupy_problem, recognise

    variants = _kernels.VARIANTS
    if arguments.model is not None:
        head = recognise(arguments.model)
        element = ("ELEMENT", _kernels.ELEMENTS[head.dtype])
        variants = tuple(
            variant for variant in variants if variant.source in KERNELS[head.kind] and element in variant.defines
        )
    problem = cupy_problem()
    if problem:
        print(f"nothing to compile: {problem}; the NumPy twin needs no compiling")
        return 0
    for variant in variants:
        start = time.perf_counter()
        _kernels.kernel(variant)
        print(f"{variant!s:<40}{time.perf_counter() - start:6.2f} s")
    return 0


def bench(arguments: argparse.Namespace) -> int:
    """Run the benchmark harness, which lies in the package when installed and beside it in a checkout."""
    for name in ("posepost.bench.run", "bench.run"):
        if importlib.util.find_spec(name.partition(".run")[0]):
            status: int = importlib.import_module(name).main(["-o", arguments.output])
            return status
    raise ImportError("the benchmark harness is not installed: it comes with posepost's wheel and its source")


def doctor(arguments: argparse.Namespace) -> int:
    """Print what this machine has and what to install for what is missing."""
    machine = look_around()
    print(report(machine))
    return 0


class Machine(NamedTuple):
    """What `look_around` found; None where there is none, a text in `*_problem` where it is there and does not work."""

    driver: str | None  # release of the NVIDIA driver
    cuda: tuple[int, int] | None  # newest CUDA version the driver runs
    gpus: tuple[str, ...]
    packages: Mapping[str, str | None]  # version by import name
    cupy_problem: str | None
    nvrtc: str | None
    nvrtc_problem: str | None
    providers: tuple[str, ...]


def look_around() -> Machine:
    """Ask the driver and the installed packages; nothing is changed and nothing is downloaded."""
    driver, cuda, gpus = _driver()
    packages = {"numpy": np.__version__, **{name: _version(name) for name in ("cupy", "onnxruntime", "onnx", "PIL")}}
    problem = nvrtc = nvrtc_problem = None
    if packages["cupy"] is not None:
        from posepost.ort import cupy_problem

        problem = cupy_problem()
        try:
            nvrtc = ".".join(str(part) for part in importlib.import_module("cupy").cuda.nvrtc.getVersion())
        except (ImportError, RuntimeError, OSError) as error:
            nvrtc_problem = _message(error)
    providers: tuple[str, ...] = ()
    if packages["onnxruntime"] is not None:
        providers = tuple(importlib.import_module("onnxruntime").get_available_providers())
    return Machine(driver, cuda, gpus, packages, problem, nvrtc, nvrtc_problem, providers)


def report(machine: Machine) -> str:
    """What was found, a line each, then what to do about what is missing."""
    have = machine.packages
    cuda = "" if machine.cuda is None else f", runs CUDA up to {machine.cuda[0]}.{machine.cuda[1]}"
    nvrtc = machine.nvrtc or (f"does not load ({machine.nvrtc_problem})" if machine.nvrtc_problem else None)
    cupy = f"{have['cupy']} ({machine.cupy_problem})" if machine.cupy_problem else have["cupy"]
    lines = [
        ("GPU", ", ".join(machine.gpus) or "none"),
        ("driver", f"{machine.driver or 'NVIDIA'}{cuda}" if machine.cuda else "none"),
        ("CuPy", cupy),
        ("NVRTC", nvrtc),
        ("onnxruntime", f"{have['onnxruntime']}: {', '.join(machine.providers)}" if have["onnxruntime"] else None),
        ("onnx", have["onnx"]),
        ("Pillow", have["PIL"]),
        ("NumPy", have["numpy"]),
    ]
    text = [f"{what:<13}{value or 'not installed'}" for what, value in lines]
    return "\n".join([*text, "", *advice(machine)])


def advice(machine: Machine) -> list[str]:
    """What to install or change, most important first; never empty."""
    have = machine.packages
    gpu = bool(machine.gpus)
    lines = []
    if not gpu:
        lines.append("No NVIDIA GPU answers: decoding runs on the CPU (NumPy), with the same results.")
    elif machine.cuda is not None and machine.cuda < (12, 0):
        lines.append("The NVIDIA driver is too old: install one that runs CUDA 12 or newer.")
    elif have["cupy"] is None or machine.nvrtc is None:
        extra = "cuda13" if machine.cuda and machine.cuda >= (13, 0) else "cuda12"
        lines.append(f'For decoding on the GPU: pip install "posepost[{extra}]"')
    elif machine.cupy_problem:
        lines.append(f"CuPy is installed and cannot use the GPU: {machine.cupy_problem}")
    if have["onnxruntime"] is None or have["onnx"] is None or have["PIL"] is None:
        lines.append(f'For running ONNX models and drawing: pip install "posepost[{"ort-gpu" if gpu else "ort"}]"')
    elif gpu and "CUDAExecutionProvider" not in machine.providers:
        lines.append(
            "This onnxruntime runs on the CPU only; for the GPU: "
            'pip uninstall onnxruntime, then pip install "posepost[ort-gpu]"'
        )
    if not lines:
        lines.append("Nothing is missing: models and decoding run on the GPU.")
    return lines


def output_names(images: Sequence[str], folder: Path) -> list[str]:
    """A name for the outputs of each image: its stem, or stem-2, ... where an output would meet another file."""
    inputs = {os.path.realpath(path) for path in images}
    taken: set[str] = set()
    names = []
    for path in images:
        stem, number = Path(path).stem, 1
        name = stem
        while name.casefold() in taken or inputs & {os.path.realpath(file) for file in _outputs(folder / name)}:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _outputs(base: Path) -> tuple[Path, Path]:
    return base.with_name(f"{base.name}.json"), base.with_name(f"{base.name}.overlay.png")


def _one_image(
    session: PoseSession | TopDownSession, path: str, base: Path, size: tuple[int, int] | None, find: Find
) -> tuple[dict[Path, bytes], str]:
    """The files of one image, and what was found in a few words."""
    from posepost._image import read_image
    from posepost.draw import overlay
    from posepost.ort import input_size

    image = read_image(path)
    people, found = find(path, image)
    document = {
        "image": path,
        "width": image.width,
        "height": image.height,
        "model": os.path.basename(session.model.name),
        "input_size": list(input_size(session.model, size)),
        "device": session.device,
        "poses": _poses(session.keypoint_names(people.keypoints.shape[1]), people),
    }
    text, picture = _outputs(base)
    files = {
        text: (json.dumps(document, indent=1, allow_nan=False) + "\n").encode(),
        picture: _png(overlay(image, people.keypoints, people.keypoint_scores, min_score=SHOWN)),
    }
    return files, found


class People(NamedTuple):
    """Those found in one image: keypoints (N, K, 2), keypoint_scores (N, K), scores (N,), NumPy arrays; boxes [N][4]
    where somebody gave them."""

    keypoints: np.ndarray[Any, Any]
    keypoint_scores: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]
    boxes: Sequence[Sequence[float]] | None = None


def _above(poses: Poses, least: float) -> People:
    """Those in the first image that score at least so much, in their order."""
    points, keypoint_scores, scores = (array[0, : poses.count[0]] for array in poses[:3])
    kept = scores >= least
    return People(points[kept], keypoint_scores[kept], scores[kept])


def _poses(names: Sequence[str], people: People) -> list[dict[str, Any]]:
    def number(value: Any) -> float | None:
        return float(str(value)) if math.isfinite(value) else None  # the shortest decimal that is this float32

    labels = names or tuple(f"keypoint {k}" for k in range(people.keypoints.shape[1]))
    boxes = [{}] * len(people.scores) if people.boxes is None else [{"box": list(box)} for box in people.boxes]
    return [
        {
            "score": number(score),
            **box,
            "keypoints": [
                {"name": label, "x": number(x), "y": number(y), "score": number(keypoint_score)}
                for label, (x, y), keypoint_score in zip(labels, points, keypoint_scores)
            ],
        }
        for points, keypoint_scores, score, box in zip(*people[:3], boxes)
    ]


def _maps(session: PoseSession, images: Any, heads: Sequence[str]) -> list[np.ndarray[Any, Any]]:
    """Heads of the model on the host."""
    maps = session.forward(images, heads=heads)
    if session.stream is None:
        return list(maps)
    session.stream.synchronize()  # synchronizes
    return [array.numpy() for array in maps]


def _ran_on(session: PoseSession | TopDownSession) -> str:
    device, decoder = ("GPU", "CUDA kernel") if session.device == "cuda" else ("CPU", "NumPy")
    return f"running on the {device} ({session.device_reason}); decoder: {decoder}"


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "heads": arguments.heads,
        "layout": arguments.layout,
        "activation": None if arguments.activation == "none" else arguments.activation,
        "mean": arguments.mean,
        "std": arguments.std,
    }


def _folder(path: str) -> Path:
    if not path:
        raise ValueError("-o must name a directory, got ''")
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"-o must name a directory, {path} is a file") from None
    return Path(path)


def _png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _write(files: Mapping[Path, bytes]) -> None:
    """Write all files beside their places first, then move them in: a file is there whole or not at all."""
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in files}
    try:
        for path, data in files.items():
            parts[path].write_bytes(data)
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            with contextlib.suppress(FileNotFoundError):
                part.unlink()


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _complain(text: str) -> None:
    print(f"posepost: {text}", file=sys.stderr)


def _version(package: str) -> str | None:
    try:
        module = importlib.import_module(package)
    except ImportError:
        return None
    return str(getattr(module, "__version__", "unknown version"))


def _driver() -> tuple[str | None, tuple[int, int] | None, tuple[str, ...]]:
    """(driver release, newest CUDA version, GPUs), asked of the CUDA driver library."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None, None, ()
    version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    cuda = divmod(version.value, 1000)[0], version.value % 1000 // 10
    gpus = []
    if library.cuInit(0) == 0 and library.cuDeviceGetCount(ctypes.byref(count)) == 0:
        for ordinal in range(count.value):
            name = ctypes.create_string_buffer(256)
            library.cuDeviceGet(ctypes.byref(device), ordinal)
            library.cuDeviceGetName(name, len(name), device)
            gpus.append(name.value.decode(errors="replace"))
    release = None
    with contextlib.suppress(OSError):
        found = re.search(r"Kernel Module.*?(\d+\.\d+[.\d]*)", Path("/proc/driver/nvidia/version").read_text())
        release = found and found.group(1)
    return release, cuda, tuple(gpus)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="posepost", description="Keypoints from pose networks, decoded where their outputs lie.")
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=_Parser)
    parser.set_defaults(command=_no_command)

    command = commands.add_parser("demo", help="run the bundled model on the bundled scenes")
    command.add_argument("-o", dest="output", metavar="DIR", default="posepost-demo", help="default: %(default)s")
    command.set_defaults(command=demo)

    command = commands.add_parser("inspect", help="print a model's inputs, outputs and recognised heads")
    _add_model(command)
    command.set_defaults(command=inspect)

    command = commands.add_parser("run", help="keypoints (JSON) and overlay (PNG) of images")
    _add_model(command)
    command.add_argument("images", metavar="IMAGE", nargs="+")
    command.add_argument("-o", dest="output", metavar="DIR", default="posepost-out", help="default: %(default)s")
    command.add_argument("--size", type=_size, metavar="HxW", help="of the network's input, where it takes any")
    command.add_argument("--people", choices=("one", "all"), help="default: all where the model has the heads for it")
    command.add_argument(
        "--score", type=_score, metavar="S", help=f"least score of a person, with --people all; default: {LEAST_SCORE}"
    )
    command.add_argument(
        "--skeleton",
        type=_skeleton,
        metavar="P-C,...",
        help="parent and child of each edge, by number, in the order of the displacement channels; default: PoseNet's",
    )
    command.add_argument(
        "--box", type=_box, action="append", metavar="X0,Y0,X1,Y1",
        help="of a person, in pixels of the image, once or more; --box=-9,... where x0 is below 0; default: the image",
    )  # fmt: skip
    command.add_argument("--boxes", metavar="FILE.json", help='{"IMAGE": [[x0, y0, x1, y1], ...], ...}')
    command.add_argument(
        "--padding", type=_above_zero, metavar="P", help="how much larger than the box its crop is; default: 1.25"
    )
    command.add_argument("--flip", action="store_true", help="mean of each crop and its mirror image")
    command.add_argument(
        "--flip-pairs",
        type=_indices,
        metavar="K,K,...",
        help="--flip, with each keypoint's partner in the mirror image",
    )
    command.set_defaults(command=run)

    command = commands.add_parser("warmup", help="compile the kernels ahead of the first call")
    command.add_argument("model", metavar="MODEL.onnx", nargs="?", help="only what this model needs")
    command.set_defaults(command=warmup)

    command = commands.add_parser("bench", help="measure decoder, floors and peers on this machine")
    command.add_argument("-o", dest="output", metavar="DIR", default="bench-results", help="default: %(default)s")
    command.set_defaults(command=bench)

    command = commands.add_parser("doctor", help="what this machine has, and what to install for what is missing")
    command.set_defaults(command=doctor)
    return parser


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL.onnx")
    command.add_argument("--mean", type=_numbers, metavar="M", help="of the pixels, one number or R,G,B")
    command.add_argument("--std", type=_numbers, metavar="S", help="likewise; the input is (pixel - mean) / std")
    command.add_argument(
        "--heads", type=_heads, metavar="HEAD=OUTPUT,...",
        help="heatmaps, offsets, displacement_fwd, displacement_bwd, simcc_x, simcc_y",
    )  # fmt: skip
    command.add_argument("--stride", type=_positive, metavar="S", help="input pixels per heatmap cell")
    command.add_argument("--layout", choices=("NCHW", "NHWC"), help="of the outputs")
    command.add_argument("--preset", metavar="NAME", help="rules of heatmaps (default: mmpose_msra) or SimCC (rtmpose)")
    choices = ("auto", "sigmoid", "none")
    command.add_argument("--activation", choices=choices, default="auto", help="sigmoid: logits; none: scores")


def _no_command(arguments: argparse.Namespace) -> int:
    raise ValueError("give a command: demo, inspect, run, warmup, bench or doctor (posepost --help tells more)")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH in pixels, such as 353x481, got {text!r}")
    return int(match[1]), int(match[2])


def _numbers(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or not all(math.isfinite(value) for value in values):
        raise argparse.ArgumentTypeError(f"must be one number or three with commas, got {text!r}")
    return values


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def _box(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise argparse.ArgumentTypeError(f"must be x0,y0,x1,y1 in pixels of the image, got {text!r}")
    return values


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def _indices(text: str) -> list[int]:
    if not re.fullmatch(r"[0-9]{1,5}(,[0-9]{1,5})*", text):
        raise argparse.ArgumentTypeError(f"must be whole numbers with commas, such as 0,2,1, got {text!r}")
    return [int(part) for part in text.split(",")]


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text):
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def _skeleton(text: str) -> list[tuple[int, int]]:
    if not re.fullmatch(r"[0-9]{1,4}-[0-9]{1,4}(,[0-9]{1,4}-[0-9]{1,4})*", text):
        raise argparse.ArgumentTypeError(f"must be PARENT-CHILD,... by number, such as 0-1,1-2, got {text!r}")
    return [(int(parent), int(child)) for parent, _, child in (part.partition("-") for part in text.split(","))]


def _heads(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(head and output for head, _, output in pairs):
        raise argparse.ArgumentTypeError(f"must be HEAD=OUTPUT,..., got {text!r}")
    return {head: output for head, _, output in pairs}
