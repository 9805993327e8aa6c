"""The one road of every decoder: read the arrays, find the plan, launch, hand the result over; or the same in NumPy."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import _check, _cuda, _kernels, _view
from ._rules import Rule, dtypes
from ._rules.refinement import BORDERS, STEP_GUARDS, STEPS, Step
from .types import PINNED, DeviceMemory, Result, Shape, Writer, made


class Decoder(NamedTuple):
    """What a decoder adds to the road."""

    arguments: tuple[str, ...]
    """Names of its arrays; the first says where the call runs."""
    rule: Any
    """(*options) -> the rule; cached, with all checks."""
    plan: Callable[..., Plan]
    """(forms, rule, quantization) -> the launches on a device; cached, with all checks."""
    prepare: Callable[..., Any]
    """(forms, rule, quantization) -> what `decode` needs; cached, with all checks."""
    decode: Callable[..., tuple[Any, ...]]
    """(prepared, matrix, *arrays) -> arrays of the result, in NumPy."""
    result: type[Result]


class Launch(NamedTuple):
    kernel: _cuda.Kernel
    grid: _cuda.Size
    block: _cuda.Size


class Plan(NamedTuple):
    """All of a call on a device that does not change from frame to frame; `planned` makes it.

    The pointers at the head of `struct Params` are, in this order: the inputs, the transform, the arrays of the result,
    sections of scratch memory, sections of zeroed memory.
    """

    shapes: tuple[Shape, ...]  # of the arrays of the result
    launches: tuple[Launch, ...]  # none where there are no rows
    alignment: int  # bytes: the largest element of the inputs
    pool: ParameterPool
    takes_transform: bool
    work: Work | None


class Work(NamedTuple):
    """Memory beside arguments and results, and inputs that are parts of others."""

    inside: tuple[tuple[int, int, int], ...]  # (input, other, bytes): it lies so far behind where the other begins
    scratch: tuple[int, ...]  # sizes of sections, in words of 8 bytes
    zeroed: int  # words of 8 bytes
    zeroed_sections: tuple[int, ...]  # where they begin, in bytes


def planned(
    inputs: int,
    params: np.ndarray[Any, Any],
    *,
    shapes: tuple[Shape, ...],
    launches: tuple[tuple[_kernels.Variant, _cuda.Size, _cuda.Size], ...],
    alignment: int,
    takes_transform: bool = True,
    inside: tuple[tuple[int, int, int], ...] = (),
    scratch: tuple[int, ...] = (),
    zeroed: int = 0,
    zeroed_sections: tuple[int, ...] = (),
) -> Plan:
    """A plan whose `struct Params` is `params` but for the pointers."""
    work, pointers = None, inputs + takes_transform + len(shapes)
    if shapes[0][0] == 0:
        launches = ()
    elif zeroed or scratch or inside:
        if not (zeroed or scratch):
            zeroed_sections = ()
        work = Work(inside, scratch, zeroed, zeroed_sections)
        pointers += len(scratch) + len(zeroed_sections)
    kernels = tuple(Launch(_cuda.kernel(variant), grid, block) for variant, grid, block in launches)
    return Plan(shapes, kernels, alignment, ParameterPool(params, pointers), takes_transform, work)


class ParameterPool:
    """Parameter blocks of a plan, one for each call in progress: a thread acquires one, fills it in and releases it.

    List operations are atomic, so this needs no lock.
    """

    def __init__(self, template: np.ndarray[Any, Any], pointers: int) -> None:
        """`template`: `struct Params`; how many pointers at its head a call fills in."""
        self.template = template.copy()
        self.pack = struct.Struct(f"{pointers}Q").pack_into
        self.free = [_cuda.Parameters(self.template)]
        self.release = self.free.append

    def acquire(self) -> _cuda.Parameters:
        try:
            return self.free.pop()
        except IndexError:
            return _cuda.Parameters(self.template)

    def restore(self, block: _cuda.Parameters) -> None:
        """Before the release of a block in which more than pointers were filled in, which no other call may see."""
        block.words[:] = self.template.view(np.uint64)


def run(
    decoder: Decoder,
    arrays: tuple[_view.Array | None, ...],
    options: tuple[Any, ...],
    quantization: Any,
    transform: Any,
    out: Any,
    stream: Any,
) -> Any:
    """One call of a decoder, on the device of its first array or in NumPy."""
    arguments, rule_of, plan_of, _, _, kind = decoder
    try:
        rule = rule_of(*options)
    except (TypeError, ValueError):  # of what cannot be hashed, or is wrong: said below
        rule = None
    if rule is None:
        rule = rule_of.__wrapped__(*options)
    try:
        seen = _view.inputs(arrays, arguments, stream)
        if seen is None:
            return _run_in_numpy(decoder, arrays, rule, quantization, transform, out)
        device, queue, library, pointers, forms, held = seen
        stream = queue[0]
        quantized = None if quantization is None else _quantized(quantization, arguments, forms)
        plan = plan_of(forms, rule, quantized)
    except _cuda.NoCuPy as error:
        raise _without_cupy(arrays[0], arguments[0]) from error
    shapes, launches, alignment, pool, takes_transform, work = plan
    for pointer in pointers:
        if pointer % alignment:
            _check_alignment(arrays, arguments)
            break  # an array of smaller elements than the largest

    asked, ours = out, None
    ready = False  # whether the call may write to `out` as it is
    if type(out) is kind and out._memory is not None:
        on, at, known, into, addresses, ours, holder = out._memory
        ready = at == stream and known == shapes and on == device and (holder is not None or queue[1] is None)
    if not ready or into == "jax":
        out = _result(out, decoder, shapes, device, queue, library)
        _, _, _, into, addresses, _, _ = out._memory
    if ours is None and asked is not None:  # what was allocated here overlaps nothing but arrays of that result itself
        _check_overlap(decoder, shapes, addresses, pointers, forms)

    block = pool.acquire()
    try:
        if takes_transform:
            pointers.append(0)
            if transform is not None:
                matrices = _set_transform(block.struct, transform, device, shapes[0][0], arguments[0], queue)
                if matrices is not None:
                    pointers[-1] = matrices.pointer
                    held += _view.owners([matrices], queue)
        pointers += addresses
        if work is not None:
            _launch_with_work(plan, work, pointers, block, device, queue)
        else:
            pool.pack(block.words, 0, *pointers)
            for kernel, grid, threads in launches:
                _cuda.cuda.launch(kernel, grid, threads, block, device, stream)
    finally:
        if transform is not None:
            pool.restore(block)
        pool.release(block)
    if held:
        _cuda.hold(device, stream, held)
    if into == PINNED or stream == _cuda.PER_THREAD_STREAM:
        out = _written(out, queue)
    if into not in _view.ORDERED:
        return out
    handed = _view.hand_over(out._arrays, device, stream, into)
    return out if into == "torch" else made(kind, handed, out._memory)


def _without_cupy(array: _view.Array, name: str) -> ImportError:
    try:
        where = f"cuda:{_view.device(array, name)}"
    except _cuda.NoCuPy:  # which alone could tell
        where = "a CUDA device"
    lies = "lie" if name.endswith("s") else "lies"
    return ImportError(f"{name} {lies} on {where}, and decoding there needs CuPy: {_cuda.INSTALL_CUPY}")


def _check_alignment(arrays: tuple[_view.Array | None, ...], names: tuple[str, ...]) -> None:
    for array, name in zip(arrays, names):
        if array is not None:
            _check.alignment(_view.view(array, name), name)


def _check_overlap(
    decoder: Decoder,
    shapes: tuple[Shape, ...],
    addresses: tuple[int, ...],
    pointers: list[int],
    forms: tuple[_view.Form | None, ...],
) -> None:
    written, read = _lengths(shapes, forms, decoder.arguments)
    outputs = [(address, address + length) for address, length in zip(addresses, written)]
    inputs = [(address, address + length) if length else None for address, length in zip(pointers, read)]
    _check.apart(outputs, decoder.result.DTYPES, inputs, decoder.arguments, _check.share)


@functools.lru_cache(maxsize=256)
def _lengths(
    shapes: tuple[Shape, ...], forms: tuple[_view.Form | None, ...], arguments: tuple[str, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Bytes from the beginning to the end of each array of a result, and of each input; 0 of what is missing."""
    read = [0 if form is None else _view.span(form, name) for form, name in zip(forms, arguments)]
    return tuple([4 * math.prod(shape) for shape in shapes]), tuple(read)


def _launch_with_work(
    plan: Plan, work: Work, pointers: list[int], block: _cuda.Parameters, device: int, queue: _view.Queue
) -> None:
    for to, of, behind in work.inside:
        pointers[to] = pointers[of] and pointers[of] + behind
    memory = _cuda.NO_WORK
    if work.zeroed or work.scratch:
        memory = _cuda.work(work.zeroed, sum(work.scratch), device, queue.pointer, queue.holder)
    address = memory.scratch
    for words in work.scratch:
        pointers.append(address)
        address += 8 * words
    pointers += [memory.zeroed + start for start in work.zeroed_sections]
    plan.pool.pack(block.words, 0, *pointers)
    try:
        for kernel, grid, threads in plan.launches:
            _cuda.cuda.launch(kernel, grid, threads, block, device, queue.pointer)
    except BaseException:  # some without the others, which leave zero what the next call must find zero
        if len(plan.launches) > 1:
            _cuda.renew_workspace(device, queue.pointer)
        raise
    if memory.captured:
        _cuda.done_with(memory, device, queue.pointer)


def _run_in_numpy(
    decoder: Decoder, arrays: tuple[Any, ...], rule: Rule, quantization: Any, transform: Any, out: Any
) -> Any:
    library, seen, forms = _view.on_host(arrays, decoder.arguments)
    quantized = None if quantization is None else _quantized(quantization, decoder.arguments, forms)
    prepared = decoder.prepare(forms, rule, quantized)
    matrix = None
    if transform is not None:
        matrix = _check.transform(transform, None, prepared.rows, decoder.arguments[0])
    if seen is not arrays:
        seen = [one if one is None else _view.as_numpy(one) for one in seen]
    found = _quietly(decoder.decode, prepared, matrix, *seen)
    if out is None:
        arrays_out = found if library == "numpy" else [_view.from_numpy(one, library) for one in found]
        return made(decoder.result, arrays_out)
    given = _arrays_of(out, decoder)
    results = {name: (one.shape, dtype) for (name, dtype), one in zip(decoder.result.DTYPES.items(), found)}
    into = [_view.as_numpy(one) for one in _check.outputs(given, results, None, decoder.arguments[0])]
    _check.apart(into, results, list(seen), decoder.arguments, np.may_share_memory)
    for one, values in zip(into, found):
        one[...] = values
    more = [_view.from_numpy(one, library) for one in found[len(given) :]]
    return decoder.result(*given[: len(found)], *more)


@np.errstate(all="ignore")
def _quietly(decode: Callable[..., Any], *arguments: Any) -> Any:
    """Infinities and NaN are values here; a decorator costs less at each call than a block."""
    return decode(*arguments)


def _quantized(
    quantization: Any, arguments: tuple[str, ...], forms: tuple[_view.Form | None, ...]
) -> _check.Quantization:
    """Checked; kept by its items, as a call gives what the call before gave."""
    if type(quantization) is dict and len(quantization) <= len(arguments):
        flat: list[Any] = []
        for name, pair in quantization.items():
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                break
            flat += (name, *pair)
        else:
            try:
                return _known_quantization(arguments, forms, *flat)
            except TypeError:  # of what cannot be hashed: said below
                pass
    return _checked_quantization(quantization, arguments, forms)


@functools.lru_cache(maxsize=256, typed=True)  # typed: True is no scale though it equals 1
def _known_quantization(
    arguments: tuple[str, ...], forms: tuple[_view.Form | None, ...], *flat: Any
) -> _check.Quantization:
    """flat: (name, scale, zero point) of each item, one after the other."""
    return _checked_quantization(dict(zip(flat[::3], zip(flat[1::3], flat[2::3]))), arguments, forms)


def _checked_quantization(
    quantization: Any, arguments: tuple[str, ...], forms: tuple[_view.Form | None, ...]
) -> _check.Quantization:
    specs = [None if form is None else _view.spec(form, name) for form, name in zip(forms, arguments)]
    return _check.quantization(quantization, dtypes(arguments, specs))


# ---- results


def _arrays_of(out: Any, decoder: Decoder) -> tuple[_view.Array, ...]:
    if isinstance(out, decoder.result):
        return out._arrays
    names = list(decoder.result.DTYPES)[: decoder.result.UNPACKED]
    if not isinstance(out, tuple) or len(out) != len(names):
        got = f"{len(out)} arrays" if isinstance(out, tuple) else type(out).__name__
        raise TypeError(f"out must be a result of the same call or a tuple ({', '.join(names)}), got {got}")
    return out


@functools.lru_cache(maxsize=256)
def _sections(shapes: tuple[Shape, ...], library: str) -> tuple[int, ...]:
    """Where each array begins in memory that they share, in floats, and where the last one ends."""
    starts = [0]
    for shape in shapes:
        starts.append(_view.start_of_section(starts[-1] + math.prod(shape), library))
    return tuple(starts)


def _allocated(
    kind: type[Result], shapes: tuple[Shape, ...], first: int, device: int, queue: _view.Queue, library: str
) -> tuple[tuple[_view.Array, ...], tuple[int, ...], _view.Array]:
    """The arrays of a result from number `first` on, in a row in memory of their own."""
    *starts, end = _sections(shapes[first:], library)
    whole, address = _view.empty(end, device, queue.pointer, library)
    arrays = []
    for start, shape, dtype in zip(starts, shapes[first:], list(kind.DTYPES.values())[first:]):
        part = whole[start : start + math.prod(shape)].reshape(shape)
        arrays.append(_view.as_int32(part, library) if dtype == "int32" else part)
    return tuple(arrays), tuple([address + 4 * start for start in starts]), whole


def _result(
    out: Any, decoder: Decoder, shapes: tuple[Shape, ...], device: int, queue: _view.Queue, library: str
) -> Result:
    """A new result, or `out` with its addresses: checked where it is no result of such a call, completed where it has
    not all arrays."""
    kind = decoder.result
    if out is None:
        arrays, addresses, whole = _allocated(kind, shapes, 0, device, queue, library)
        return made(kind, arrays, DeviceMemory(device, queue.pointer, shapes, library, addresses, whole, queue.holder))
    arrays = _arrays_of(out, decoder)[: len(shapes)]
    memory = out._memory if isinstance(out, kind) else None
    if memory is not None:
        common = min(len(shapes), len(memory.shapes))
        if memory.device != device or memory.library == "jax" or memory.shapes[:common] != shapes[:common]:
            memory = None
    if memory is None:
        results = {name: (shape, dtype) for (name, dtype), shape in zip(kind.DTYPES.items(), shapes)}
        views = _check.outputs(arrays, results, device, decoder.arguments[0], queue)
        addresses = tuple([view.pointer for view in views])
        memory = DeviceMemory(device, 0, shapes, views[0].library, addresses, None, None)
    addresses = memory.addresses[: len(shapes)]
    if len(addresses) < len(shapes):
        more, more_addresses, _ = _allocated(kind, shapes, len(addresses), device, queue, library)
        arrays, addresses = (*arrays, *more), (*addresses, *more_addresses)
    holder = memory.holder if isinstance(memory.holder, Writer) else queue.holder
    memory = memory._replace(shapes=shapes, addresses=addresses, stream=queue.pointer, holder=holder)
    return made(kind, arrays, memory)


def _written(result: Result, queue: _view.Queue) -> Result:
    """A result that `queue` has just been told to write and that needs more than its stream to be waited for."""
    memory = result._memory
    assert memory is not None
    if isinstance(memory.holder, Writer):
        memory.holder.stream, memory.holder.holder = queue.pointer, _view.written_by(queue, memory.device)
        return result
    event = _view.written_by(queue, memory.device)
    return made(type(result), result._arrays, memory._replace(holder=event))


# ---- parameters that several kernels have

NO_MATRIX, BY_VALUE, BY_POINTER = 0, 1, 2  # Params.affine


def _set_transform(
    params: Any, transform: Any, device: int, rows: int, reference_name: str, queue: _view.Queue
) -> _view.View | None:
    """Put one host matrix into the parameter block, or return the rows on the device, to be held until the launch."""
    found = _check.transform(transform, device, rows, reference_name, queue)
    if isinstance(found, np.ndarray):
        if found.ndim == 2:
            params["affine"], params["matrix"] = BY_VALUE, found.ravel()
            return None
        found = _view.view(_cuda.cuda.upload(found, device, queue.pointer), "transform")
    params["affine"] = BY_POINTER
    spec = _view.spec(found.form, "transform")
    params["transform_stride"] = spec.strides[0] if len(spec.shape) == 3 else 0
    return found


def set_step(params: Any, step: Step) -> None:
    """What kernels/refine.cuh asks of a kernel's parameters."""
    params["refine"], params["guard"] = STEPS.index(step.kind), STEP_GUARDS.index(step.guard)
    params["border"], params["reach"] = BORDERS.index(step.border), step.window // 2
    params["positive"], params["blur"], params["beta"] = step.positive, len(step.taps), step.beta
    params["taps"][0, : len(step.taps)] = step.taps


def set_flip_pairs(params: Any, pairs: tuple[int, ...] | None) -> None:
    if pairs is None:
        return
    most = params["flip_pairs"].shape[1]
    if len(pairs) > most:
        raise ValueError(f"flip.pairs must have at most {most} keypoints on a device, got {len(pairs)}")
    params["flip_pairs"][0, : len(pairs)] = pairs


def element_number(dtype: str) -> int:
    """Of a tensor that kernels read element by element: `enum Element` of kernels/argmax.cuh."""
    return list(_kernels.ELEMENTS).index(dtype)
