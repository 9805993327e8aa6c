"""What README shows is what runs: its snippets, its figures, its files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from posepost import _kernels

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block_after(text: str) -> str:
    """The first fenced block behind a piece of text."""
    return re.search(r"```\w*\n(.*?)```", README[README.index(text) :], re.S)[1]


def test_the_numpy_snippet_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block_after("**NumPy**"), "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 17


def test_the_torch_snippet_runs() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    names = {"network": lambda images: (torch.zeros(2, 17, 9, 9), torch.zeros(2, 34, 9, 9)), "images": None}
    exec(compile(block_after("**PyTorch.**"), "README.md", "exec"), names)
    assert names["people"].keypoints.shape == (2, 17, 2)


def test_the_onnxruntime_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bundled model and scene in the place of the user's."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    assets = ROOT / "posepost" / "assets"
    (tmp_path / "posenet.onnx").write_bytes((assets / "figures.onnx").read_bytes())
    image_module.open(assets / "scene.png").convert("RGB").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(block_after("**onnxruntime-gpu.**"), "README.md", "exec"), names)
    assert names["keypoints"].shape == (1, 17, 2)
    assert names["scores"].min() > 0.3


def test_the_performance_table_is_made_from_the_committed_result() -> None:
    from bench.report import readme_table

    found = re.search(r"<!-- made from (bench/results/\S+\.json) -->\n(.*?)\n<!-- end -->", README, re.S)
    assert found, "README has no performance table"
    result = json.loads((ROOT / found[1]).read_text(encoding="utf-8"))
    assert found[2].strip() == readme_table(result).strip()


def test_the_table_of_the_gpu_is_made_from_the_committed_result() -> None:
    from bench.report import gpu_table

    found = re.search(r"<!-- on a GPU, made from (bench/results/\S+\.json) -->\n(.*?)\n<!-- end -->", README, re.S)
    assert found, "README has no table of a GPU"
    result = json.loads((ROOT / found[1]).read_text(encoding="utf-8"))
    assert found[2].strip() == gpu_table(result).strip()
    host = result["host_us"]
    for name in ("blocking", "blocking pinned", "download maps"):
        assert f"{host[name]:.0f} µs" in README


def test_the_table_of_several_people_is_made_from_the_committed_result() -> None:
    from bench.report import several_people_table

    pattern = r"<!-- several people, made from (bench/results/\S+\.json) -->\n(.*?)\n<!-- end -->"
    found = re.search(pattern, README, re.S)
    assert found, "README has no table of several people"
    result = json.loads((ROOT / found[1]).read_text(encoding="utf-8"))
    assert found[2].strip() == several_people_table(result).strip()


def test_the_table_of_heads_is_made_from_the_committed_results() -> None:
    from bench.report import heads_table

    pattern = r"<!-- heads, made from (\S+\.json), (\S+\.json) and (\S+\.json) -->\n(.*?)\n<!-- end -->"
    found = re.search(pattern, README, re.S)
    assert found, "README has no table of heads"
    results = [json.loads((ROOT / file).read_text(encoding="utf-8")) for file in found.groups()[:3]]
    assert found[4].strip() == heads_table(*results).strip()


def test_the_top_down_snippet_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block_after("**Top-down networks.**"), "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 17


def test_every_kernel_is_in_the_table_of_what_was_counted() -> None:
    rows = (re.match(r"\w+<[^>]*>", line) for line in block_after("python -m bench.counted").splitlines())
    assert [row[0] for row in rows if row] == [str(variant) for variant in _kernels.VARIANTS]


def test_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_demo_output_is_the_demo_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, bytes and, to a tenth of a pixel or so, places; the last digits are this machine's."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from posepost.cli import main

    assert main(["demo", "-o", str(tmp_path)]) == 0
    number = re.compile(r"-?\d+\.\d+")

    def read(text: str) -> tuple[list[str], list[float]]:
        rows = [line for line in text.splitlines() if number.search(line) or "bytes" in line]
        return [line.split()[0] for line in rows], [float(n) for line in rows for n in number.findall(line)]

    shown, printed = read(block_after("`make demo` prints")), read(capsys.readouterr().out)
    assert shown[0] == printed[0]
    np.testing.assert_allclose(shown[1], printed[1], atol=0.15)
