"""The kernel sources: they compile for every architecture, and what Python knows of them is what they say."""

from __future__ import annotations

import ctypes
import inspect
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.cuda_cpu import executor
from bench.cuda_cpu.seam import ExecutorCuda
from bench.resources import compile_for
from posepost import _cuda, _kernels


@pytest.mark.parametrize("variant", _kernels.VARIANTS, ids=str)
@pytest.mark.parametrize(
    "architecture",
    [pytest.param(arch, marks=[] if arch in (75, 90) else pytest.mark.slow) for arch in _kernels.ARCHITECTURES],
)
def test_compiles_without_spills(variant: _kernels.Variant, architecture: int) -> None:
    pytest.importorskip("cupy", reason="CuPy brings NVRTC's options: pip install posepost[cuda13]")
    compiled = compile_for(variant, architecture)
    assert compiled.cubin[:4] == b"\x7fELF"
    # two blocks of 256 threads fit an SM; accept_poses, one block an image, may fill it alone
    assert 0 < compiled.registers <= (255 if variant.entry == "accept_poses" else 128)
    assert compiled.shared_bytes <= 48 * 1024
    assert (compiled.spilled_bytes, compiled.stack_bytes, compiled.warnings) == (0, 0, ())


def test_every_variant_is_listed_once() -> None:
    assert len(set(_kernels.VARIANTS)) == len(_kernels.VARIANTS) == 75


def test_parameter_struct_is_laid_out_as_in_the_source() -> None:
    """NumPy's offsets of `struct Params` against the compiler's."""
    able, reason = executor.available()
    if not able:
        pytest.skip(reason)
    for name in {variant.source for variant in _kernels.VARIANTS}:
        dtype = _kernels.parameters(name)
        checks = [f"static_assert(sizeof(Params) == {dtype.itemsize});"]
        checks += [
            f"static_assert(__builtin_offsetof(Params, {field}) == {dtype.fields[field][1]});" for field in dtype.names
        ]
        variant = next(variant for variant in _kernels.VARIANTS if variant.source == name)
        source = _kernels.source(name) + "\n".join(checks)
        executor.build(source, variant.entry, variant.options)
        with pytest.raises(RuntimeError, match="static assertion failed"):
            executor.build(source.replace(f"== {dtype.itemsize})", "== 1)"), variant.entry, variant.options)


def test_headers_are_pasted_so_that_an_edit_changes_the_text(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy's disk cache is keyed by the text it gets: an edited header must give another text."""
    (tmp_path / "a.cuh").write_text("int one;\n")
    (tmp_path / "b.cuh").write_text('#include "a.cuh"\nint two;\n')
    (tmp_path / "k.cu").write_text('#include "a.cuh"\n#include "b.cuh"\nint three;\n')
    monkeypatch.setattr(_kernels, "directory", lambda: tmp_path)
    read = _kernels.source.__wrapped__
    before = read("k.cu")
    assert "#include" not in before
    assert [line for line in before.splitlines() if line.startswith("int")] == ["int one;", "int two;", "int three;"]
    assert '#line 3 "k.cu"\nint three;' in before
    (tmp_path / "a.cuh").write_text("int uno;\n")
    assert read("k.cu") != before


def test_threads_stand_once() -> None:
    for name in {variant.source for variant in _kernels.VARIANTS}:
        assert re.findall(r"#define THREADS (\d+)", _kernels.source(name)) == [str(_kernels.THREADS)]


def test_executor_stands_in_for_all_of_cuda() -> None:
    """The seam: same methods, same parameters."""

    def methods(kind: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(f).parameters) for name, f in functions if not name.startswith("_")}

    assert methods(ExecutorCuda) == methods(_cuda.Cuda)


def test_what_reaches_cupy() -> None:
    """`Cuda` on a stand-in of CuPy: the current stream, and a launch on the device that is current or made so."""
    seen: list[Any] = []

    class Device:
        current = 0

        def __init__(self, ordinal: int) -> None:
            self.ordinal = ordinal

        def __enter__(self) -> None:
            self.outer, Device.current = Device.current, self.ordinal

        def __exit__(self, *error: object) -> None:
            Device.current = self.outer

    cupy = SimpleNamespace(cuda=SimpleNamespace())
    cupy.cuda.Device = Device
    cupy.cuda.runtime = SimpleNamespace(getDevice=lambda: Device.current)
    cupy.cuda.get_current_stream = lambda: SimpleNamespace(ptr=100 + Device.current)

    def launch(function: int, *numbers: int) -> None:
        *shape, shared, stream, arguments, extra = numbers
        block = ctypes.string_at(ctypes.c_uint64.from_address(arguments).value, 8)
        seen.append((function, tuple(shape), shared, stream, block, extra, Device.current))

    cupy.cuda.driver = SimpleNamespace(launchKernel=launch)
    cuda = _cuda.Cuda(cupy)
    assert [cuda.stream(device).ptr for device in (0, 1)] == [100, 101]

    class Raw:
        loaded = 0

        @property
        def kernel(self) -> Any:
            Raw.loaded += 1
            return SimpleNamespace(ptr=1000 + Device.current)

    kernel, params = _cuda.Kernel(Raw()), _cuda.Parameters(np.array([0x0807060504030201], np.uint64))
    for device in (0, 1, 0):
        cuda.launch(kernel, (5, 2, 1), (64, 1, 1), params, device, 7)
    sent = bytes(range(1, 9))
    assert seen == [(1000 + device, (5, 2, 1, 64, 1, 1), 0, 7, sent, 0, device) for device in (0, 1, 0)]
    assert Raw.loaded == 2
    assert Device.current == 0


def test_macros_stand_in_the_source_and_not_in_the_options() -> None:
    """CuPy runs the compiler for each new set of options of a process, even where its disk cache has the kernel."""
    asked: list[Any] = []

    def module(**given: Any) -> Any:
        asked.append(given)
        return SimpleNamespace(get_function=lambda entry: entry)

    runtime = SimpleNamespace(getDevice=lambda: 0)
    cuda = SimpleNamespace(runtime=runtime, get_current_stream=None, driver=SimpleNamespace(launchKernel=None))
    seam = _cuda.Cuda(SimpleNamespace(cuda=cuda, RawModule=module))
    for variant in _kernels.VARIANTS:
        assert seam.compile(variant).raw == variant.entry
    assert {given["options"] for given in asked} == {_kernels.OPTIONS}
    assert len({given["code"] for given in asked}) == len({(v.source, v.defines) for v in _kernels.VARIANTS})
    assert asked[0]["code"].startswith("#define ELEMENT f32\n#define LAYOUT PLANAR\n#line 1")


def test_element_table_matches_the_header() -> None:
    header = _kernels.source("posenet.cu")
    for struct in _kernels.ELEMENTS.values():
        assert f"struct {struct} {{" in header
    assert [np.dtype(name).itemsize for name in ("float32", "float16", "uint8", "int8")] == [4, 2, 1, 1]
