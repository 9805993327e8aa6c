"""The wheel: built from the sdist, installed into a fresh virtual environment, used there to decode. Works offline."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS = sorted(path.name for path in (ROOT / "kernels").glob("*.cu*"))
BENCH = {  # what `posepost bench` runs: neither peers nor what works in a checkout alone
    *(f"{name}.py" for name in ("__init__", "bench_posenet", "cases", "conftest", "harness", "launches", "measure")),
    *("optional.py", "run.py", "timing.py", "floors/__init__.py", "floors/floors.cu"),
    *(f"report/{name}.py" for name in ("__init__", "__main__", "load", "page", "plots", "tables")),
    *("report/page.css", "report/page.js"),
}
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "posepost").rglob("*.py"))


def run(*command: object, cwd: Path, **environment: str) -> str:
    given = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")} | environment
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, env=given)
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
    for asset in ("figures.onnx", "scene.png", "crowd.png", "schemes.json"):
        assert f"posepost/assets/{asset}" in names
    assert "posepost/py.typed" in names
    assert "posepost/ort/topdown.py" in MODULES
    assert set(MODULES) <= set(names)
    assert {name.partition("/bench/")[2] for name in names if name.startswith("posepost/bench/")} == BENCH
    assert {name.partition("/")[2] for name in packed if re.match(r"bench/.*\.", name)} == BENCH
    assert not [name for name in names if not name.startswith(("posepost/", "posepost-"))]
    assert not [name for name in packed if name.startswith(("tests", "examples", "docs"))]


DECODE = """
import numpy as np, posepost, posepost._kernels as kernels
assert "site-packages" in posepost.__file__, posepost.__file__
assert "site-packages" in str(kernels.directory()), kernels.directory()
heatmaps = np.zeros((1, 2, 3, 4), np.float32); heatmaps[0, :, 1, 2] = 5
print(posepost.decode_posenet(heatmaps, np.ones((1, 4, 3, 4), np.float32), output_stride=8).keypoints.tolist())
print(len(kernels.source("posenet.cu")), posepost.__version__)
"""


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel and nothing else; no network is needed."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=built)
    wheel = next(built.glob("*.whl"))
    python = venv / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel, cwd=built)
    return venv


def site_packages(venv: Path) -> Path:
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(run(venv / "bin" / "python", "-c", asked, cwd=venv).strip())


def test_wheel_decodes_in_a_fresh_environment(installed: Path, tmp_path: Path) -> None:
    """Nothing but NumPy beside it, which is lent by this environment."""
    site = site_packages(installed)
    for package in (Path(np.__file__).parent, Path(np.__file__).parent.with_name("numpy.libs")):
        if package.exists():
            (site / package.name).symlink_to(package)
    lines = run(installed / "bin" / "python", "-c", DECODE, cwd=tmp_path).splitlines()
    assert lines[0] == "[[[17.0, 9.0], [17.0, 9.0]]]"
    assert int(lines[1].split()[0]) > 10_000
    assert "usage: posepost" in run(installed / "bin" / "posepost", "--help", cwd=tmp_path)
    assert "usage: posepost bench" in run(installed / "bin" / "posepost", "bench", "--help", cwd=tmp_path)


def test_wheel_measures_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    """`posepost bench` with this environment's pytest, NumPy and CuPy: a table, the JSON and the page, and no peers."""
    lent = [path for path in sys.path if path.endswith("site-packages")]
    (site_packages(installed) / "lent.pth").write_text("\n".join(lent))
    where = "import posepost.bench, sys; sys.exit('site-packages' not in posepost.bench.__file__)"
    run(installed / "bin" / "python", "-c", where, cwd=tmp_path)
    command = (installed / "bin" / "posepost", "bench", "-o", "results")
    said = run(*command, cwd=tmp_path, POSEPOST_BENCH_QUICK="1", OMP_NUM_THREADS="1")
    assert "the reference implementations to compare with: they come with the source checkout" in said
    assert re.search(r"^PoseNet 257x257/16/B1/NCHW/fp32 +blocking ", said, re.MULTILINE)
    (page,), (kept,) = (tmp_path / "results").glob("*.html"), (tmp_path / "results").glob("*.json")
    assert f"wrote results/{kept.name} and results/{page.name}" in said
    assert "<style>\n:root{" in page.read_text(encoding="utf-8")


def test_editable_install_finds_the_checkout() -> None:
    import posepost._kernels as kernels

    assert kernels.directory() == ROOT / "kernels"
