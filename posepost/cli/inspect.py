"""`posepost inspect`: what a model's graph tells."""

from __future__ import annotations

import argparse

from posepost.ort import describe, read_graph, read_model, read_topdown, recognize

from ._options import check_options, model_options
from ._output import in_options


def inspect(arguments: argparse.Namespace) -> int:
    """Print what a model's graph tells."""
    graph = read_graph(arguments.model)
    kind = recognize(graph, heads=arguments.heads, layout=arguments.layout, preset=arguments.preset).kind
    check_options(arguments, kind)
    if kind == "posenet":
        text = describe(read_model(graph, **model_options(arguments), output_stride=arguments.stride))
    else:
        text = describe(read_topdown(graph, **model_options(arguments), preset=arguments.preset))
    print(in_options(text))
    return 0
