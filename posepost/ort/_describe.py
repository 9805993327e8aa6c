"""What `posepost inspect` says of a model."""

from __future__ import annotations

from ._models import PoseModel, TopDownModel
from ._posenet_heads import HEADS
from ._tensors import dims


def describe(model: PoseModel | TopDownModel) -> str:
    """A model's inputs, outputs and what was recognized, one fact a line."""
    size = " x ".join(str(side or "any") for side in model.input_size)
    usual = " x ".join(str(side) for side in model.usual_size)
    keypoints = str(len(model.keypoints)) if model.keypoints else "unknown until it runs"
    if model.scheme is not None:
        keypoints += f": {', '.join(model.keypoints)}"
    lines = [
        ("model", model.name),
        *(
            ("input", f"{name} {tensor.dtype} {dims(tensor.shape)}{_given(model, name)}")
            for name, tensor in model.inputs.items()
        ),
        *(("output", f"{name} {tensor.dtype} {dims(tensor.shape)}") for name, tensor in model.outputs.items()),
        *(_posenet_lines(model) if isinstance(model, PoseModel) else _topdown_lines(model)),
        ("input is", str(model.feed)),
        ("keypoints", keypoints),
        ("names are", model.keypoints_by),
    ]
    where = next(number for number, (key, _) in enumerate(lines) if key == "layout")
    lines.insert(where + 1, ("size", f"{size} (width x height)" + f", usually {usual}" * (None in model.input_size)))
    if model.quantization:
        scales = [f"{head}: scale {scale:g}, zero {zero}" for head, (scale, zero) in model.quantization.items()]
        lines.append(("quantized", ", ".join(scales)))
    return "\n".join(f"{key:<17}{value}" for key, value in lines)


def _given(model: PoseModel | TopDownModel, name: str) -> str:
    """The value that an input besides the image gets."""
    return f" = {model.extra_inputs[name].tolist()}" if name in model.extra_inputs else ""


def _found(model: PoseModel | TopDownModel) -> list[tuple[str, str]]:
    """How the heads were found, what speaks for them and what against."""
    evidence = model.evidence
    lines = [("found", model.heads_by)]
    if model.heads_by != "named by the caller":
        lines += [("for", fact) for fact in evidence.favor]
    return lines + [("against", fact) for fact in evidence.against]


def _posenet_lines(model: PoseModel) -> list[tuple[str, str]]:
    stride = "unknown" if model.output_stride is None else str(model.output_stride)
    activation = {"sigmoid": "logits", None: "scores", "unknown": "unknown"}[model.activation]
    return [
        *((head, model.heads.get(head, "not recognized (not needed for one person)")) for head in HEADS),
        *_found(model),
        ("layout", f"input {model.input_layout}, outputs {model.layout or 'known when it runs'}"),
        ("stride", f"{stride} ({model.output_stride_by})"),
        ("heatmaps are", f"{activation} ({model.activation_by})"),
    ]


def _topdown_lines(model: TopDownModel) -> list[tuple[str, str]]:
    first, second = (str(side or "any") for side in model.sizes)
    ratio = "known when it runs" if model.ratio is None else f"{model.ratio:g}"
    if model.kind == "heatmap":
        head, layout = "heatmaps", f"input {model.input_layout}, outputs {model.layout}"
        sizes = ("maps", f"{first} x {second} (width x height), input pixels a cell: {ratio}")
    else:
        head, layout = "SimCC", f"input {model.input_layout}"
        sizes = ("bins", f"{first} along x, {second} along y, split ratio: {ratio}")
    return [
        ("head", f"{head}, one person a crop"),
        *model.heads.items(),
        *_found(model),
        ("layout", layout),
        sizes,
        ("preset", f"{model.preset} ({model.preset_by})"),
        ("outputs are", f"{'scores' if model.activation is None else 'logits'} ({model.activation_by})"),
    ]
