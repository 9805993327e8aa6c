"""What a call asks for, one module a decoder: options as one checked, hashable value, presets, and the shapes that fit.

A rule is made from the arguments of a call and read by the plan of a launch, by the NumPy implementation and by the
ONNX sessions.
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .. import _check, _view


class Rule:
    """Base of the frozen dataclasses that hold options. Equal options are one object (`kept` sees to that), so that
    each call finds its plan by identity."""

    @property
    def values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))  # type: ignore[arg-type]


Made = TypeVar("Made", bound=Rule)


def kept(make: Callable[..., Made]) -> Callable[..., Made]:
    """`make`, with its results kept: a call asks for what the call before asked for."""
    one_of_each: weakref.WeakValueDictionary[tuple[Any, ...], Made] = weakref.WeakValueDictionary()

    @functools.lru_cache(maxsize=256, typed=True)  # typed: 11.0 is no size though it equals 11
    @functools.wraps(make)
    def rule(*options: Any) -> Made:
        made = make(*options)
        return one_of_each.setdefault(made.values, made)

    return rule


Scale = tuple[np.float32, np.float32]
"""(scale, zero point) of a quantized tensor."""


def described(
    arguments: tuple[str, ...],
    forms: tuple[_view.Form | None, ...],
    quantized: _check.Quantization | None,
    optional: int = 0,
) -> tuple[list[Any], dict[str, Scale]]:
    """The `_view.Spec` of each array and the scales of quantized ones by argument. Of the last `optional` arrays some
    may be missing: None."""
    for name, form in zip(arguments[: len(arguments) - optional], forms):
        if form is None:
            _view.view(None, name)  # raises
    specs = [None if form is None else _view.spec(form, name) for name, form in zip(arguments, forms)]
    if quantized is None:
        quantized = _check.quantization(None, dtypes(arguments, specs))
    return specs, {name: (np.float32(scale), np.float32(zero)) for name, scale, zero in quantized}


def dtypes(arguments: tuple[str, ...], specs: list[_view.Spec | None]) -> dict[str, str]:
    """Of the arrays that have a scale of their own: those of a flip have that of what they mirror."""
    return {n: spec.dtype for n, spec in zip(arguments, specs) if spec is not None and not n.startswith("flip.")}
