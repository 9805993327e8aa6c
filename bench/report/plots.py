"""The plots of the page as SVG text. Looks are classes of its style sheet: `us`, `floor`, `p0` to `p4` for peers."""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

PEER_COLOURS = 5  # told apart with any color vision, and by their markers
WIDTH = 360.0  # of every view box, in which a letter of a label is LETTER wide: legible on a telephone
LETTER = 6.2


class Series(NamedTuple):
    """A line; `points` are (x, y) or (x, y, low, high), the last two a band around it."""

    label: str
    points: Sequence[tuple[float, ...]]
    look: str


class Bar(NamedTuple):
    """One bar; without `value` the note says why there is none. `floor` is marked across the bar."""

    label: str
    value: float | None
    note: str
    look: str
    floor: float | None = None


class Dot(NamedTuple):
    """A ratio; hollow where it is within the noise. Dots of one group stand together under its name."""

    label: str
    ratio: float
    note: str
    hollow: bool = False
    group: str = ""


def escape(value: object) -> str:
    """Text for HTML and XML, which know no control characters."""
    return html.escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ufffe\uffff\ud800-\udfff]", "\ufffd", str(value)))


def three_digits(value: float, units: Sequence[tuple[float, str]]) -> str:
    """`value` in the largest of the ascending units that it reaches, with three significant digits."""
    for i, (unit, _) in enumerate(units):
        scaled = value / unit
        if i + 1 == len(units) or float(f"{scaled:.3g}") * unit < units[i + 1][0] * (1 - 1e-9):
            break
    rounded = float(f"{scaled:.3g}")
    digits = 0 if rounded == 0 else max(0, 2 - math.floor(math.log10(rounded)))
    return f"{rounded:.{digits}f}{units[i][1]}"


def duration(seconds: float, micro: str = "µ") -> str:
    return three_digits(seconds, ((1e-9, " ns"), (1e-6, f" {micro}s"), (1e-3, " ms"), (1, " s")))


def size(count: float) -> str:
    """Bytes in decimal units, as the bus and the memory are sold."""
    return f"{count:.0f} B" if count < 1000 else three_digits(count, ((1e3, " kB"), (1e6, " MB"), (1e9, " GB")))


def brief(quantity: str) -> str:
    """10 ms for 10.0 ms: for the round values of an axis."""
    return re.sub(r"\.0+(?=\D)|(?<=\.\d)0+(?=\D)", "", quantity)


def times(ratio: float) -> str:
    return three_digits(ratio, ((1, "x"),)) if ratio < 999.5 else f"{ratio:.0f}x"


def peer_look(index: int) -> str:
    """Color and marker of the index-th peer: no two of the first 25 share both."""
    return f"p{index % PEER_COLOURS} m{(index + index // PEER_COLOURS) % 5}"


def lines(
    title: str,
    desc: str,
    series: Sequence[Series],
    *,
    x_name: str,
    y_name: str,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    x_format: Callable[[float], str] = str,
    y_format: Callable[[float], str] = lambda seconds: brief(duration(seconds)),
    y_log: bool = True,
    dots: Sequence[tuple[float, float, str, str]] = (),
) -> str:
    """Series over a logarithmic x, each named at its right end; `dots` are (x, y, look, hover text) beside them."""
    left, right, top, bottom, width = 46.0, 122.0, 26.0, 40.0, WIDTH
    xs = [point[0] for s in series for point in s.points] + [dot[0] for dot in dots]
    ys = [y for s in series for point in s.points for y in point[1:]] + [dot[1] for dot in dots]
    names = [textwrap.wrap(s.label, 15, max_lines=3, placeholder="…") or [""] for s in series]
    height = max(290.0, top + bottom + sum(12.5 * len(name) + 4 for name in names))
    x_at = _log_scale(min(xs) * 0.9, max(xs) * 1.1, left, width - right)
    if y_log:
        low, high = min(ys) * 0.8, max(ys) * 1.25
        y_at, y_ticks = _log_scale(low, high, height - bottom, top), log_ticks(low, high)
    else:
        y_ticks = linear_ticks(max(ys))
        y_at = _scale(0, max(y_ticks[-1], max(ys) * 1.03), height - bottom, top)
    if x_ticks is None:
        x_ticks = [(x, x_format(x)) for x in log_ticks(min(xs) * 0.9, max(xs) * 1.1)]

    body = [_text(2, 12, y_name, "axis")]
    for y in y_ticks:
        body.append(_path(f"M{left:g} {y_at(y):.1f}H{width - right:g}", "grid"))
        body.append(_text(left - 6, y_at(y) + 4, y_format(y), "tick", "end"))
    free = 0.0
    for x, label in x_ticks:
        half = len(label) * LETTER / 2
        body.append(_path(f"M{x_at(x):.1f} {height - bottom:g}v4", "grid"))
        if x_at(x) - half >= free:
            body.append(_text(x_at(x), height - bottom + 16, label, "tick", "middle"))
            free = x_at(x) + half + 4
    body.append(_text((left + width - right) / 2, height - 6, x_name, "axis", "middle"))

    for x, y, look, hover in dots:
        body.append(
            f'<circle class="dot {look}" cx="{x_at(x):.1f}" cy="{y_at(y):.1f}" r="3">'
            f"<title>{escape(hover)}</title></circle>"
        )
    for s in sorted(series, key=lambda s: (s.look == "us", s.look == "floor")):
        points = sorted(s.points)
        if len(points[0]) == 4 and len(points) > 1:
            upper = [f"{x_at(p[0]):.1f} {y_at(p[3]):.1f}" for p in points]
            lower = [f"{x_at(p[0]):.1f} {y_at(p[2]):.1f}" for p in reversed(points)]
            body.append(_path(f"M{'L'.join(upper + lower)}Z", f"band {s.look}"))
        body.append(_path("M" + "L".join(f"{x_at(p[0]):.1f} {y_at(p[1]):.1f}" for p in points), f"line {s.look}"))
        for p in points:
            hover = f"{s.label}, {_tick_label(p[0], x_ticks, x_format)}: {y_format(p[1])}"
            if len(p) == 4:
                hover += f" ({y_format(p[2])} to {y_format(p[3])})"
            body.append(_marker(x_at(p[0]), y_at(p[1]), s.look, hover))

    ends = [max(s.points) for s in series]
    heights = [12.5 * len(name) + 4 for name in names]
    middles = _spread([y_at(end[1]) for end in ends], heights, top - 8, height - bottom + 8)
    label_x = width - right + 25
    for s, name, end, y in zip(series, names, ends, middles):
        leader = f"M{x_at(end[0]) + 5:.1f} {y_at(end[1]):.1f}L{label_x - 16:g} {y:.1f}h4"
        body.append(_path(leader, f"leader {s.look}"))
        body.append(_marker(label_x - 7, y, s.look, ""))
        first = y + 4 - 6.2 * (len(name) - 1)
        body += [_text(label_x, first + 12.5 * i, part, f"name {s.look}") for i, part in enumerate(name)]
    return _svg(width, height, title, desc, body)


def bars(title: str, desc: str, rows: Sequence[Bar], *, domain: tuple[float, float] | None, log: bool) -> str:
    """Horizontal bars of times, each named above itself; a logarithmic domain has no zero and says so at its axis."""
    width, left, right = WIDTH, 2.0, WIDTH - 2
    bottom = 24.0 + 32 * len(rows)
    body: list[str] = []
    ticks: list[float] = []
    if domain:
        at = (_log_scale if log else _scale)(*domain, left, right)
        ticks = log_ticks(*domain) if log else linear_ticks(domain[1])
    heading = _text(left, 14, title, "heading")
    for tick in ticks:
        if at(tick) > right + 1:
            continue
        anchor = "start" if at(tick) < left + 12 else "end" if at(tick) > right - 18 else "middle"
        body.append(_path(f"M{at(tick):.1f} 24V{bottom:g}", "grid"))
        body.append(_text(at(tick), bottom + 14, brief(duration(tick)) if tick else "0", "tick", anchor))
    for i, row in enumerate(rows):
        y = 38.0 + 32 * i
        room = int((right - left) / LETTER) - (len(row.note) + 3 if row.value is not None else 6)
        body.append(_text(left, y, _cut(row.label, room), f"name halo {row.look}"))
        if row.value is None:
            body.append(_text(left, y + 13, _cut(row.note, room), "value halo warning"))
            continue
        body.append(_text(right, y, row.note, "value halo", "end"))
        if domain:
            hover = f"<title>{escape(row.label)}: {escape(row.note)}</title>"
            length = max(1.0, at(row.value) - left)
            body.append(
                f'<rect class="bar {row.look}" x="{left:g}" y="{y + 4:g}" width="{length:.1f}" height="8" rx="2">'
                f"{hover}</rect>"
            )
            if row.floor is not None and domain[0] <= row.floor <= domain[1]:
                body.append(_path(f"M{at(row.floor):.1f} {y + 2:g}v12", "limit"))
    if domain:
        body.append(
            _text(left, bottom + 29, "logarithmic: each bar starts at " + duration(domain[0]) if log else "", "axis")
        )
    return _svg(width, bottom + (34 if log else 20), title, desc, [heading, *body])


def ratios(title: str, desc: str, rows: Sequence[Dot], warning: str, sides: tuple[str, str]) -> str:
    """Ratios around 1 on a logarithmic axis, with a warning printed on the plot itself."""
    labels = [_cut(row.label, 27) for row in rows]
    left = max(104, max(len(label) for label in labels) * 6.7 + 12)
    width, right = WIDTH, WIDTH - 20
    notice = textwrap.wrap(warning, 50)
    top = 30.0 + 14 * len(notice) + (6 if notice else 0)
    groups = dict.fromkeys(row.group for row in rows)
    bottom = top + 14 + 17 * len(rows) + 22 * len([group for group in groups if group])
    reach = max(1.25, *(max(row.ratio, 1 / row.ratio) * 1.1 for row in rows))
    at = _log_scale(1 / reach, reach, left, right)
    step = max(s for s in (1.1, 1.25, 1.5, 2.0, 5.0, 10.0, 100.0, 1000.0) if s <= reach)
    body = [_text(2, 14, title, "heading")]
    body += [_text(2, 32 + 14 * i, line, "warning") for i, line in enumerate(notice)]
    for tick in (1 / step, 1.0, step):
        body.append(_path(f"M{at(tick):.1f} {top + 10:g}V{bottom:g}", "line one" if tick == 1 else "grid"))
        body.append(_text(at(tick), bottom + 14, f"{tick:.2g}x" if tick < 1 else f"{tick:g}x", "tick", "middle"))
    body.append(_text(at(1) - 8, top + 2, f"◂ {sides[0]}", "axis", "end"))
    body.append(_text(at(1) + 8, top + 2, f"{sides[1]} ▸", "axis"))
    y = top + 7
    for i in sorted(range(len(rows)), key=lambda i: list(groups).index(rows[i].group)):
        row = rows[i]
        if row.group in groups and groups.pop(row.group, True) is None and row.group:
            y += 22
            body.append(_text(2, y + 2, row.group, "name halo"))
        y += 17
        body.append(_text(left - 10, y + 4, labels[i], "tick", "end"))
        body.append(_path(f"M{at(1):.1f} {y:g}H{at(row.ratio):.1f}", "stem us"))
        shape = "hollow us" if row.hollow else "dot us"
        hover = f"<title>{escape(row.label)}: {escape(row.note)}</title>"
        body.append(f'<circle class="{shape}" cx="{at(row.ratio):.1f}" cy="{y:g}" r="4">{hover}</circle>')
    return _svg(width, bottom + 20, title, desc, body)


def memory_path(title: str, desc: str, *, maps: int, crossing: int, full: int, decoded_here: bool) -> str:
    """Maps on the device and what of them crosses the bus: areas are to scale, `full` bytes are the largest square."""
    width, height, side = WIDTH, 206.0, 100.0

    def edge(count: float) -> float:
        return side * math.sqrt(count / full)

    here, over = edge(maps), edge(crossing)
    middle, tip = 86.0, min(9.0, 4 + over / 2)
    left_x, right_x = 72 - here / 2, 288 - over / 2
    body = [
        '<rect class="place" x="2" y="2" width="140" height="202" rx="8"/>',
        '<rect class="place" x="218" y="2" width="140" height="202" rx="8"/>',
        _text(72, 22, "GPU memory", "axis", "middle"),
        _text(288, 22, "host memory", "axis", "middle"),
        _path(f"M{left_x + here:.1f} {middle:g}H{right_x - 3:.1f}", "flow", f"stroke-width:{max(1.5, over):.1f}"),
        _rect("maps", left_x, middle - here / 2, here),
        _path(f"M{right_x - 3 - tip:.1f} {middle - tip:.1f}l{tip:g} {tip:g}l{-tip:g} {tip:g}z", "tip"),
        _rect("arrived", right_x, middle - over / 2, over),
        _path("M180 46V204", "bus"),
        _text(180, 14, "bus", "axis", "middle"),
        _text(180, 36, size(crossing), "big halo", "middle"),
        _text(72, 158, "heatmaps, offsets", "value", "middle"),
        _text(72, 174, size(maps), "value", "middle"),
        _text(72, 192, "decoded here" if decoded_here else "", "name us", "middle"),
        _text(288, 158, "keypoints" if decoded_here else "a copy of the maps", "value", "middle"),
        _text(288, 192, "" if decoded_here else "decoded here", "name us", "middle"),
    ]
    return _svg(width, height, title, desc, body)


def log_ticks(low: float, high: float) -> list[float]:
    """Decades, with 2 and 5 or 3 between them as long as that gives at most seven."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 7:
            break
    return ticks


def linear_ticks(high: float) -> list[float]:
    """From zero to at most `high` in about four round steps."""
    raw = high / 4
    decade = 10.0 ** math.floor(math.log10(raw))
    step = next(m * decade for m in (1, 2, 2.5, 5, 10) if m * decade >= raw * 0.999)
    return [step * i for i in range(math.floor(high / step * 1.0001) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _log_scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    linear = _scale(math.log(low), math.log(high), start, end)
    return lambda value: linear(math.log(value))


def _spread(wanted: Sequence[float], heights: Sequence[float], top: float, bottom: float) -> list[float]:
    """Middles near the wanted ones that do not overlap: pushed down in order, then up from the bottom."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    middles = list(wanted)
    edge = top
    for i in order:
        middles[i] = max(wanted[i], edge + heights[i] / 2)
        edge = middles[i] + heights[i] / 2
    edge = bottom
    for i in reversed(order):
        middles[i] = min(middles[i], edge - heights[i] / 2)
        edge = middles[i] - heights[i] / 2
    return middles


def _tick_label(x: float, ticks: Sequence[tuple[float, str]], x_format: Callable[[float], str]) -> str:
    return next((label for at, label in ticks if at == x), x_format(x))


def _marker(x: float, y: float, look: str, hover: str) -> str:
    """A small shape: `us` a disc, `floor` a dash, peers one of five by the digit of their m class."""
    digit = look.rpartition(" m")[2]
    shapes = {
        "floor": "m-4 0h8",
        "0": "m-3-3h6v6h-6z",
        "1": "m0-3.8l3.6 6.6h-7.2z",
        "2": "m0-4l4 4l-4 4l-4-4z",
        "3": "m-3-3l6 6m0-6l-6 6",
        "4": "m0 3.8l3.6-6.6h-7.2z",
    }
    shape = shapes.get(digit, "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z")
    title = f"<title>{escape(hover)}</title>" if hover else ""
    return f'<path class="mark {look}" d="M{x:.1f} {y:.1f}{shape}">{title}</path>'


def _rect(look: str, x: float, y: float, side: float) -> str:
    return f'<rect class="{look}" x="{x:.1f}" y="{y:.1f}" width="{side:.2f}" height="{side:.2f}"/>'


def _text(x: float, y: float, content: str, look: str, anchor: str = "start") -> str:
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{look}" x="{x:.1f}" y="{y:.1f}"{where}>{escape(content)}</text>' if content else ""


def _path(d: str, look: str, style: str = "") -> str:
    return f'<path class="{look}" d="{d}"' + (f' style="{style}"' if style else "") + "/>"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(1, length - 1)] + "…"


def _svg(width: float, height: float, title: str, desc: str, body: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img"><title>{escape(title)}</title>'
        f"<desc>{escape(desc)}</desc>{''.join(body)}</svg>"
    )
