"""What keeps torch.compile from tracing into posepost, whose graph would be that of the NumPy implementation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def untraced(function: Function) -> Function:
    """The function itself, which torch.compile is to call and not to look into, nor into what it calls.

    What `torch.compiler.disable` does, with neither PyTorch imported nor a wrapper at each call. Dynamo asks a function
    that it meets for these attributes (torch 2.13, _dynamo/symbolic_convert.py).
    """
    _codes.append(function.__code__)
    if "torch" in sys.modules:
        _keep_out()
    vars(function).update(_torchdynamo_disable=_Untraced(), _torchdynamo_disable_msg=_WHY)
    return function


_codes: list[Any] = []
_WHY = "posepost reads the memory of tensors, which a graph has not"


class _Untraced:
    """True; whoever asks is Dynamo, so PyTorch is imported and can be told of the functions' own frames as well."""

    def __bool__(self) -> bool:
        _keep_out()
        return True


def _keep_out() -> None:
    """Run untraced functions, and all that they call, as if nothing were compiled."""
    try:
        frames: Any = sys.modules["torch"]._C._dynamo.eval_frame
        skip = frames._FrameExecStrategy(frames._FrameAction.SKIP, frames._FrameAction.SKIP)
        for code in _codes:
            frames.set_code_exec_strategy(code, skip)
    except (AttributeError, TypeError):  # internals of PyTorch; one that has others traces on, more slowly
        pass
