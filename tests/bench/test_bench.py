"""The harness: what it times is checked, what fails is reported and the rest goes on; its device half on stand-ins."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import posepost
from bench import launches, measure, timing
from bench.cases import CASES, POSENET, Case, inputs
from bench.cuda_cpu.seam import STREAM, ExecutorCuda, forget_plans, host, to_device
from bench.measure import EMPTY, READ, READ_BACK
from bench.optional import Unsupported
from posepost import _cuda, _kernels

ROOT = Path(__file__).resolve().parents[2]
SMALL = Case("small", 2, 3, 9, 7, 16)


def peer(prepare: Any, name: str = "peer") -> Any:
    return SimpleNamespace(NAME=name, DEVICES=("cpu",), COMPLETE=True, missing=lambda device: None, prepare=prepare)


def right(case: Case, sets: Any, device: str) -> Any:
    return lambda i: posepost.decode_posenet(*sets[i], output_stride=case.output_stride, activation="sigmoid")


def measured(monkeypatch: pytest.MonkeyPatch, *peers: Any, case: Case = SMALL) -> measure.Measured:
    monkeypatch.setattr(measure, "PEERS", peers)
    return measure.measure(case, "cpu", seconds=0.001)


def test_cases_of_the_contract() -> None:
    frames = {(case.H, case.W, case.output_stride) for case in POSENET}
    assert frames == {(17, 17, 16), (23, 31, 16), (65, 65, 8), (34, 60, 16), (68, 120, 16), (68, 120, 8), (135, 240, 8)}
    hrnet = {(case.H, case.W, case.B) for case in CASES if case.model.startswith("HRNet") and "base" in sweeps(case)}
    assert hrnet == {(H, W, B) for H, W in ((64, 48), (96, 72)) for B in (1, 8, 64, 512)}
    formats = {(case.layout, case.dtype) for case in CASES if "format" in sweeps(case)}
    assert len(formats) == 8
    assert len({case.name for case in CASES}) == len(CASES)


def sweeps(case: Case) -> list[str]:
    return measure.sweeps_of(case)


def test_what_is_measured_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured(monkeypatch, peer(right))
    assert set(found.results) == {("posepost", "blocking"), (READ, "blocking"), ("peer", "blocking")}
    assert not found.failures
    for name in ("posepost", "peer"):
        assert found.results[name, "blocking"].floor == READ
        assert len(found.results[name, "blocking"].times) >= 5


def test_a_row_at_30_hertz_has_its_floor_at_30_hertz(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing.time, "sleep", lambda seconds: None)
    found = measured(monkeypatch, case=POSENET[1])
    assert found.results["posepost", "blocking 30 Hz"].floor == READ
    assert len(found.results[READ, "blocking 30 Hz"].times) == 60


def failing(error: BaseException, after: int = 0) -> Any:
    def prepare(case: Case, sets: Any, device: str) -> Any:
        calls = iter(range(10**6))
        decode = right(case, sets, device)

        def call(i: int) -> Any:
            if next(calls) >= after:
                raise error
            return decode(i)

        return call

    return prepare


MEMORY = MemoryError("Unable to allocate 7.45 GiB")
OUT_OF_MEMORY = type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 7.45 GiB.")


@pytest.mark.parametrize(
    ("prepare", "status", "reason"),
    [
        (failing(ValueError("no\nsuch layout")), "failed", "ValueError: no such layout"),
        (failing(Unsupported("takes no maps")), "skipped", "takes no maps"),
        (
            failing(MEMORY),
            "failed",
            "out of memory with 1,512 bytes of heatmaps: MemoryError: Unable to allocate 7.45 GiB",
        ),
        (
            failing(OUT_OF_MEMORY),
            "failed",
            "out of memory with 1,512 bytes of heatmaps: OutOfMemoryError: CUDA out of memory. Tried to allocate "
            "7.45 GiB.",
        ),
        (failing(ValueError("late"), after=6), "failed", "while it was timed: ValueError: late"),
    ],
)
def test_a_failing_peer_is_reported_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, prepare: Any, status: str, reason: str
) -> None:
    found = measured(monkeypatch, peer(prepare, "bad"), peer(right, "good"))
    assert found.failures == [measure.Failure(SMALL.name, "bad", "blocking", status, reason)]
    assert set(found.results) == {(name, "blocking") for name in ("posepost", READ, "good")}


@pytest.mark.parametrize("after", [0, 11])
def test_a_wrong_result_is_no_result(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Wrong at once, or only after the check of 4 sets, 2 calls to warm up and 5 timed ones."""

    def prepare(case: Case, sets: Any, device: str) -> Any:
        calls, decode = iter(range(10**6)), right(case, sets, device)

        def call(i: int) -> Any:
            keypoints, scores = decode(i)
            return keypoints + (0.01 if next(calls) >= after else 0), scores

        return call

    found = measured(monkeypatch, peer(prepare))
    assert ("peer", "blocking") not in found.results
    (failure,) = found.failures
    assert failure.reason.startswith("wrong after timing: AssertionError: Not equal" if after else "AssertionError")


def test_a_case_without_memory_is_a_failure_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(case: Case, seed: int) -> Any:
        raise MEMORY

    monkeypatch.setattr(measure, "inputs", no_memory)
    found = measured(monkeypatch)
    assert not found.results
    reason = "out of memory with 1,512 bytes of heatmaps: MemoryError: Unable to allocate 7.45 GiB"
    assert found.failures == [measure.Failure(SMALL.name, "posepost", "blocking", "failed", reason)]


def test_calls_take_turns_on_changing_sets_without_garbage_collection() -> None:
    import gc

    seen: list[tuple[str, int]] = []

    def call(name: str) -> Any:
        def run(i: int) -> None:
            assert not gc.isenabled()
            seen.append((name, i))

        return run

    calls = {name: call(name) for name in "abc"}
    times = timing.interleaved(calls, 4, seconds=0, failed=pytest.fail, least=8)
    assert {name: len(taken) for name, taken in times.items()} == dict.fromkeys("abc", 8)
    turns = [seen[i : i + 3] for i in range(6, len(seen), 3)]  # after two turns of warming up
    assert [{i for _, i in turn} for turn in turns] == [{n % 4} for n in range(8)]
    assert all({name for name, _ in turn} == set("abc") for turn in turns)
    assert len({tuple(name for name, _ in turn) for turn in turns}) > 1
    assert gc.isenabled()


def test_percentiles() -> None:
    expected = {"p20": 20, "p50": 50, "p80": 80, "p90": 90, "p99": 99}
    assert timing.percentiles(list(map(float, range(101)))) == expected


def test_the_whole_harness_on_two_cases(tmp_path: Path) -> None:
    """`python -m bench.run` in a process of its own leaves a file that the report takes, and says where it measured.

    One peer of all, and no count of the kernels, which takes minutes.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    environment["POSEPOST_BENCH_QUICK"] = "1"
    code = "import sys; from bench import measure, run; from bench.peers import numpy_download; "
    code += "measure.PEERS, run.count_kernels = (numpy_download,), lambda: None; sys.exit(run.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "-o", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "measuring on the" in done.stdout
    (file,) = tmp_path.glob("*.json")
    from bench.report import load

    rows = [benchmark["extra_info"] for benchmark in load(file)["benchmarks"]]
    ours = [row for row in rows if row["variant"] == "posepost"]
    assert {row["variant"] for row in rows} >= {"posepost", "floor: plain read"}
    assert {row["case"] for row in ours} == {case.name for case in CASES[:2]}
    assert all(row["ratio_to_floor"] > 0 for row in ours)
    assert "<svg" in file.with_suffix(".html").read_text(encoding="utf-8")
    assert json.loads(file.read_text(encoding="utf-8"))["machine_info"]["posepost"]["commit"]


# ---- the device half, with stand-ins for what needs a GPU


class RawKernel:
    """A kernel of the CPU executor, called as CuPy's RawKernel is."""

    def __init__(self, kernel: Any) -> None:
        self.executor, self.kernel, self.raw = kernel, SimpleNamespace(ptr=id(self)), self
        self.streams: list[int] = []
        Driver.functions[self.kernel.ptr] = self

    def __call__(self, grid: Any, block: Any, args: Any, *, stream: Any = None) -> None:
        if Stream.capturing is not None:
            params = args[0].copy()  # CUDA copies them too
            Stream.capturing.append(lambda: self(grid, block, (params,), stream=stream))
            return
        self.streams.append(stream.ptr if stream else 0)
        self.executor.launch(grid, block, args[0].tobytes())


class Cuda(ExecutorCuda):
    def compile(self, variant: _kernels.Variant) -> Any:
        return RawKernel(super().compile(variant))

    def launch(self, kernel: Any, grid: Any, block: Any, params: Any, device: int, stream: int) -> None:
        kernel(grid, block, (params.struct,), stream=SimpleNamespace(ptr=stream))


class Stream:
    """Captures into a list of calls, which a graph replays."""

    capturing: list[Any] | None = None
    ptr = 0xCAFE

    def __init__(self, non_blocking: bool = False) -> None:
        assert non_blocking

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def begin_capture(self) -> None:
        Stream.capturing = []

    def end_capture(self) -> Any:
        captured, Stream.capturing = Stream.capturing, None
        return SimpleNamespace(launch=lambda stream: [call() for call in captured], calls=captured)


class Driver(ModuleType):
    """`cuda.bindings.driver` with the kernels of the CPU executor behind it."""

    functions: ClassVar[dict[int, RawKernel]] = {}
    CUfunction = CUstream = int
    CUresult = SimpleNamespace(CUDA_SUCCESS=0)
    status = 0

    def cuLaunchKernel(self, function: int, *numbers: int) -> tuple[int]:
        *shape, shared, stream, arguments, extra = numbers
        assert (shared, extra) == (0, 0)
        kernel = self.functions[function]
        address = ctypes.c_uint64.from_address(arguments).value
        params = ctypes.string_at(address, kernel.executor._params_bytes)
        kernel.streams.append(stream)
        if not self.status:
            kernel.executor.launch(tuple(shape[:3]), tuple(shape[3:]), params)
        return (self.status,)


@pytest.fixture
def stand_ins(cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """CuPy without a device: its arrays, on which bench's own calls of CuPy work as on a GPU."""
    import cupy

    cuda = Cuda()
    monkeypatch.setattr(_cuda, "cuda", cuda)
    monkeypatch.setattr(cupy.cuda, "Stream", Stream)
    event = SimpleNamespace(record=lambda stream: None, synchronize=lambda: None)
    monkeypatch.setattr(cupy.cuda, "Event", lambda: event)
    monkeypatch.setattr(cupy.cuda, "get_elapsed_time", lambda begin, end: 1.0)
    monkeypatch.setattr(cupy.cuda, "get_current_stream", lambda: Stream(True))
    monkeypatch.setattr(cupy.cuda, "Device", lambda: SimpleNamespace(attributes={"MultiProcessorCount": 4}))
    monkeypatch.setattr(cupy, "asarray", to_device)
    monkeypatch.setattr(cupy, "zeros", lambda shape, dtype: to_device(np.zeros(shape, dtype)))
    monkeypatch.setattr(measure, "floor_kernel", lambda entry: lambda grid, block, args: None)
    monkeypatch.setattr(measure, "_read_back", lambda case: lambda i: None)
    monkeypatch.setattr(measure, "_poison", lambda out: [host_of(array).fill(np.nan) for array in out])
    monkeypatch.setattr(measure, "ENQUEUED", 20)
    monkeypatch.setattr(measure, "L2_BYTES", 3 * SMALL.heatmap_bytes)
    monkeypatch.setattr(timing, "LAUNCHES", 5)
    monkeypatch.setattr(timing, "REPLAYS", 2)
    driver = Driver("cuda.bindings.driver")
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", driver)
    monkeypatch.setattr(launches, "absent", lambda package, command: None)
    return driver


def host_of(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else host(array)


def test_what_is_measured_on_a_device(stand_ins: Driver) -> None:
    found = measure.measure(SMALL, "cuda", seconds=0.001, with_peers=False)
    assert not found.failures
    kinds = {kind: {variant for variant, k in found.results if k == kind} for _, kind in found.results}
    assert kinds == {
        "blocking": {"posepost", "posepost, pinned out", READ_BACK},
        "device warm": {"posepost", READ, EMPTY},
        "device cold": {"posepost", READ, EMPTY},
        "enqueue": {"posepost", EMPTY, *launches.WAYS},
    }
    assert found.results["posepost", "enqueue"].floor == launches.RAW_KERNEL
    assert found.results["posepost", "blocking"].bus_bytes == 2 * 3 * 12
    assert found.results["posepost", "device cold"].times == [pytest.approx(1e-3 / 5)] * 2
    assert len(found.results[launches.RAW_KERNEL, "enqueue"].times) == 20


def test_each_way_to_launch_decodes(stand_ins: Driver) -> None:
    heatmaps, offsets = map(to_device, inputs(SMALL, 0))
    expected = posepost.decode_posenet(*inputs(SMALL, 0), output_stride=16, activation="sigmoid")
    out = posepost.decode_posenet(heatmaps, offsets, output_stride=16, activation="sigmoid")
    launch = launches.recorded(
        lambda: posepost.decode_posenet(heatmaps, offsets, output_stride=16, out=out, activation="sigmoid")
    )
    assert launch.stream == STREAM
    for prepare in launches.WAYS.values():
        call = prepare(launch)
        for array in out:
            host(array).fill(np.nan)
        launch.kernel.streams.clear()
        call(0)
        np.testing.assert_array_equal(host(out.keypoints), expected.keypoints)
        assert len(launch.kernel.streams) == 1
    stand_ins.status = 700
    with pytest.raises(RuntimeError, match=r"^cuLaunchKernel: 700$"):
        launches.cuda_bindings(launch)(0)


def test_a_way_to_launch_that_is_absent_or_wrong_is_reported(
    stand_ins: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launches, "absent", lambda package, command: f"{package} is not installed: {command}")
    monkeypatch.setitem(launches.WAYS, "floor: launch of a graph", lambda launch: lambda i: None)
    found = measure.measure(SMALL, "cuda", seconds=0.001, with_peers=False)
    bindings, graph = found.failures
    reason = "cuda.bindings is not installed: pip install cuda-bindings"
    assert bindings == measure.Failure(SMALL.name, "floor: launch by cuda.bindings", "enqueue", "skipped", reason)
    assert graph[:4] == (SMALL.name, "floor: launch of a graph", "enqueue", "failed")
    assert graph.reason.startswith("AssertionError")  # the poison was still there


def test_a_graph_whose_replays_write_nothing_is_a_failure(stand_ins: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def end_capture(stream: Stream) -> Any:
        Stream.capturing = None
        return SimpleNamespace(launch=lambda stream: None)

    monkeypatch.setattr(Stream, "end_capture", end_capture)
    found = measure.measure(SMALL, "cuda", seconds=0.001, with_peers=False)
    assert [failure[1:4] for failure in found.failures] == [
        ("posepost", "device warm", "failed"),
        ("posepost", "device cold", "failed"),
        ("floor: launch of a graph", "enqueue", "failed"),
    ]
    assert ("posepost", "enqueue") in found.results


def test_the_host_time_of_a_call_is_measured_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import counted

    monkeypatch.setattr(_cuda, "cuda", _cuda.cuda)
    try:
        times = counted.host_times(repeats=20)
        assert len(times) == 5
        assert all(0 < microseconds < 10_000 for microseconds in times.values())
    finally:
        forget_plans()
