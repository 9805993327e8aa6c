"""A check in a process of its own: a faulty kernel may well write where it must not, or never end."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable

from .executor import KernelFault


def outcome(check: Callable[[], None], seconds: int = 60) -> str:
    """ "passed", "found" (an assertion, a finding of the executor, a crash, no end), or "error" (anything else)."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()  # a crash is an answer here
        signal.alarm(seconds)
        status = 0
        try:
            check()
        except (AssertionError, KernelFault):
            status = 3
        except BaseException:
            status = 1
        os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "found"
    return {0: "passed", 3: "found"}.get(os.WEXITSTATUS(status), "error")
