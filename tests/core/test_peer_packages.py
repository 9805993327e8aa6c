"""Presets against what the packages that they are named after decode, through NumPy and kernels."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest

import posepost
from bench.cuda_cpu.seam import ExecutorCuda, to_device

from ..peer_packages import PEERS, STORED, Peer, apart, stored

pytestmark = pytest.mark.usefixtures("fresh_plans")

each_peer = pytest.mark.parametrize("peer", PEERS, ids=[peer.name for peer in PEERS])


def test_the_stored_results_are_small_and_of_every_package() -> None:
    assert STORED.stat().st_size < 20_000
    with np.load(STORED) as results:
        assert {name.partition(".")[0] for name in results} == {peer.source for peer in PEERS}


@each_peer
def test_what_a_package_decoded(cpu_cuda: ExecutorCuda, peer: Peer) -> None:
    arrays = peer.inputs(0)
    on_device = {name: to_device(array) for name, array in arrays.items()}
    for ours in (peer.ours(arrays), peer.ours(on_device)):
        distances = apart(peer, stored(peer), ours)
        assert len(distances) > 60
        assert distances.max() <= peer.pixels


@each_peer
def test_what_an_installed_package_decodes(peer: Peer) -> None:
    try:
        installed = importlib.metadata.version(peer.package)
    except importlib.metadata.PackageNotFoundError:
        installed = "not installed"
    if installed != peer.version:
        pytest.skip(f"{peer.package} is {installed}: pip install {peer.package}=={peer.version}")
    for module in peer.modules:
        pytest.importorskip(module, reason=f"{peer.package} needs {module}")
    for seed in range(1, 6):
        arrays = peer.inputs(seed)
        assert apart(peer, peer.run(arrays), peer.ours(arrays)).max() <= peer.pixels


def test_another_project_s_vitpose_preset_was_pixels_off() -> None:
    """Three blurs and borders: Hugging Face's, rtmlib's and that of MMPose's codec, which Sapiens2 has too."""
    peers = {peer.name: peer for peer in PEERS}
    arrays = peers["vitpose_hf"].inputs(0)
    for name in ("vitpose_hf", "vitpose_rtmlib", "sapiens"):
        theirs = stored(peers[name])
        for other in {"vitpose_hf", "vitpose_rtmlib", "sapiens"} - {name}:
            assert apart(peers[name], theirs, peers[other].ours(arrays)).max() > 1


def test_scores_of_rtmlib_were_up_to_041_larger() -> None:
    """RTMPose through rtmlib has the mean of both maxima, MMPose's codec the smaller."""
    simcc_x, simcc_y = np.zeros((1, 1, 384), np.float32), np.zeros((1, 1, 512), np.float32)
    simcc_x[0, 0, 100], simcc_y[0, 0, 300] = 0.0625, 0.875
    mmpose = posepost.decode_simcc(simcc_x, simcc_y, preset="rtmpose")
    rtmlib = posepost.decode_simcc(simcc_x, simcc_y, preset="rtmpose_rtmlib")
    assert (mmpose.scores[0, 0], rtmlib.scores[0, 0]) == (0.0625, 0.46875)
    assert mmpose.keypoints.tolist() == rtmlib.keypoints.tolist() == [[[50, 150]]]
