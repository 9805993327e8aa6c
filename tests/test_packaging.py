"""The wheel: built from the sdist, installed into a fresh virtual environment, used there to decode. Works offline."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
KERNELS = sorted(path.name for path in (ROOT / "kernels").glob("*.cu*"))
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "posepost").rglob("*.py"))


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build", reason="the package build is not installed: pip install posepost[test]")
    out = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source") / "posepost"
    files = run("git", "ls-files", cwd=ROOT).splitlines() if (ROOT / ".git").exists() else None
    if files is None:
        pytest.skip("not a git checkout: the list of the project's files is unknown")
    for name in files:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=out)
    return out


def test_sdist_and_wheel_hold_the_modules_the_kernels_and_the_model(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    with tarfile.open(sdist) as archive:
        packed = [name.partition("/")[2] for name in archive.getnames()]
    for kernel in KERNELS:
        assert f"posepost/kernels/{kernel}" in names
        assert f"kernels/{kernel}" in packed
    for asset in ("figures.onnx", "scene.png", "crowd.png"):
        assert f"posepost/assets/{asset}" in names
    assert "posepost/py.typed" in names
    assert "posepost/ort/topdown.py" in MODULES
    assert set(MODULES) <= set(names)
    assert not [name for name in names if name.startswith(("tests", "bench"))]


DECODE = """
import numpy as np, posepost, posepost._kernels as kernels
assert "site-packages" in posepost.__file__, posepost.__file__
assert "site-packages" in str(kernels.directory()), kernels.directory()
heatmaps = np.zeros((1, 2, 3, 4), np.float32); heatmaps[0, :, 1, 2] = 5
print(posepost.decode_posenet(heatmaps, np.ones((1, 4, 3, 4), np.float32), output_stride=8).keypoints.tolist())
print(len(kernels.source("posenet.cu")), posepost.__version__)
"""


def test_wheel_decodes_in_a_fresh_environment(built: Path, tmp_path: Path) -> None:
    """Nothing but NumPy beside it, which is lent by this environment so that no network is needed."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    wheel = next(built.glob("*.whl"))
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel, cwd=tmp_path)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    for package in (Path(np.__file__).parent, Path(np.__file__).parent.with_name("numpy.libs")):
        if package.exists():
            (site / package.name).symlink_to(package)
    lines = run(python, "-c", DECODE, cwd=tmp_path).splitlines()
    assert lines[0] == "[[[17.0, 9.0], [17.0, 9.0]]]"
    assert int(lines[1].split()[0]) > 10_000
    assert "usage: posepost" in run(tmp_path / "venv" / "bin" / "posepost", "--help", cwd=tmp_path)


def test_editable_install_finds_the_checkout() -> None:
    import posepost._kernels as kernels

    assert kernels.directory() == ROOT / "kernels"
