"""Read what a flag shows out of its geometry in ``flags.toml``: stripes, field, shapes with colour, place and number.

    python examples/atlas/flag_geometry.py DK        # what is read out of a flag

The rules are for flags as they are drawn here. A union jack is one shape: its crosses are not counted. A smaller copy
on the same spot makes the larger one an edge: Norway's cross is blue with a white edge, not white.
"""

import argparse
import colorsys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from draw_flags import paint_flag

HERE = Path(__file__).parent
VISIBLE_SHARE = 0.003  # of the area, from which a colour is one of the flag's colours
Layer = dict[str, Any]
Box = tuple[float, float, float, float]
GROUNDS = ("quarters", "saltire", "diagonal band", "rays")  # they part the flag: it has no field
EMBLEMS = ("star", "disc", "crescent", "wheel", "hexagram", "pentagram", "ring_of_stars", "star_rows")


@dataclass(frozen=True)
class Shape:
    """Something on a flag; several of a kind and colour are one Shape with a count."""

    kind: str
    colour: str
    place: str = ""  # centre | left | right | corner; empty where it spans the flag or lies in several places
    count: int = 1
    edge: str = ""


@dataclass(frozen=True)
class FlagFacts:
    """All that captions are made of."""

    colours: frozenset[str]
    field: str  # colour of the ground; empty where stripes or a pattern are the ground
    direction: str  # horizontal | vertical | empty
    stripes: tuple[str, ...]  # their colours in order, from the top or the hoist
    shapes: tuple[Shape, ...]


def colour_name(hex_colour: str) -> str:
    """The common name of a colour: by hue, with light, dark and unsaturated ones apart."""
    red, green, blue = (int(hex_colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    degrees = hue * 360
    if value < 0.15:
        return "black"
    if saturation < 0.15:
        return "white" if value > 0.8 else "grey"
    if degrees < 15 or degrees >= 335:
        return "maroon" if value < 0.63 else "red"
    for limit, name in ((40, "orange"), (70, "yellow"), (172, "green")):
        if degrees < limit:
            return name
    if value >= 0.82 and degrees <= 213:
        return "light blue"
    return "teal" if degrees < 195 else "blue"


def read_flag(description: dict[str, Any]) -> FlagFacts:
    """What a flag shows."""
    layers = description["layers"]
    visible = visible_colours(description)
    direction, stripes, field = "", (), ""
    if "stripes" in layers[0]:
        direction = layers[0]["direction"]
        stripes = tuple(colour_name(colour) for colour in layers[0]["stripes"])
    elif "rectangle" in layers[0]:
        field = colour_name(layers[0]["rectangle"])
    shapes = [*_boxes(layers, field), *_crosses(layers), *_polygons(layers), *_emblems(layers)]
    shapes = [shape for shape in shapes if not shape.colour or shape.colour in visible]
    if any(
        shape.kind in GROUNDS or (shape.kind == "cross" and shape.colour == field and not shape.place)
        for shape in shapes
    ):
        field = ""  # what lies between is no single ground
    return FlagFacts(frozenset(visible), field, direction, stripes, tuple(_counted(shapes)))


def visible_colours(description: dict[str, Any]) -> dict[str, float]:
    """Names of the colours that can be seen, with their share of the area, largest first."""
    image = paint_flag(description, width_px=240, oversampling=1)
    shares: dict[str, float] = {}
    for count, (red, green, blue) in image.getcolors(image.width * image.height):
        name = colour_name(f"#{red:02X}{green:02X}{blue:02X}")
        shares[name] = shares.get(name, 0.0) + count / (image.width * image.height)
    seen = {name: share for name, share in shares.items() if share >= VISIBLE_SHARE}
    return dict(sorted(seen.items(), key=lambda item: -item[1]))


def _place(x: float, y: float) -> str:
    if x < 0.36:
        return "corner" if y < 0.42 else "left"
    if x > 0.64:
        return "right"
    return "centre" if 0.25 <= y <= 0.75 else ""


def _middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _boxes(layers: list[Layer], field: str) -> list[Shape]:
    """Rectangles after the ground: bars, bands at the hoist, cantons, crosses of two bars, quarters."""
    boxes = [(colour_name(layer["rectangle"]), tuple(layer["box"])) for layer in layers[1:] if "rectangle" in layer]
    shapes: list[Shape] = []
    used: set[int] = set()
    for first, (colour, one) in enumerate(boxes):
        for second, (other_colour, other) in enumerate(boxes[first + 1 : first + 2], start=first + 1):
            apart = max(abs(a - b) for a, b in zip(_middle(one), _middle(other), strict=True))
            wider, taller = one[2] - one[0] - other[2] + other[0], one[3] - one[1] - other[3] + other[1]
            if colour == other_colour and apart < 0.005 and wider * taller < 0:
                shapes.append(Shape("cross", colour, _place(*_middle(one))))
                used |= {first, second}
    corners = [place for place, (_, box) in enumerate(boxes) if _touches_corner(box) and place not in used]
    if len(corners) == 4:
        return [Shape("cross", field)]  # what four corners leave free
    if len(corners) == 2 and boxes[corners[0]][1][2] == 1:
        return [Shape("quarters", "")]
    for place, (colour, (left, top, right, bottom)) in enumerate(boxes):
        if place in used:
            continue
        if left == 0 and right == 1:
            shapes.append(Shape("bar", colour))
        elif top == 0 and bottom == 1:
            shapes.append(Shape("band", colour, "left" if left == 0 else "centre"))
        elif left == 0 and top == 0:
            shapes.append(Shape("canton", colour, "corner"))
        else:
            shapes.append(Shape("rectangle", colour, _place(*_middle((left, top, right, bottom)))))
    return shapes


def _touches_corner(box: Box) -> bool:
    return (box[0] == 0) != (box[2] == 1) and (box[1] == 0) != (box[3] == 1)


def _crosses(layers: list[Layer]) -> list[Shape]:
    """Crosses and saltires over the whole flag, and union jacks."""
    shapes: list[Shape] = []
    for kind in ("cross", "saltire"):
        colours = [colour_name(layer[kind]) for layer in layers if kind in layer]
        if colours:
            shapes.append(Shape(kind, colours[-1], edge=colours[-2] if len(colours) > 1 else ""))
    jacks = [layer for layer in layers if "union_jack" in layer]
    return shapes + [Shape("union jack", "", "corner" if layer["box"][2] < 1 else "") for layer in jacks]


def _polygons(layers: list[Layer]) -> list[Shape]:
    """Triangles, diagonal bands, zigzag edges, diamonds; what fits none of them is left out."""
    polygons = [(colour_name(layer["polygon"]), layer["points"]) for layer in layers if "polygon" in layer]
    if any("saltire" in layer for layer in layers):
        return []  # they are the ground between its arms
    corners = [points for _, points in polygons if len(points) == 3 and ([0, 0] in points or [1, 1] in points)]
    if len(polygons) == 2 and len(corners) == 2 and [1, 1] in corners[1] and "rectangle" in layers[0]:
        return [Shape("diagonal band", colour_name(layers[0]["rectangle"]))]
    shapes: list[tuple[Shape, list[float]]] = []
    for colour, points in polygons:
        kind, place = _polygon_kind(points)
        if not kind:
            continue
        middle = [sum(point[axis] for point in points) / len(points) for axis in (0, 1)]
        if (
            shapes
            and shapes[-1][0].kind == kind
            and max(abs(a - b) for a, b in zip(middle, shapes[-1][1], strict=True)) < 0.03
        ):
            shapes[-1] = (Shape(kind, colour, place, edge=shapes[-1][0].colour), middle)
        else:
            shapes.append((Shape(kind, colour, place), middle))
    found = [shape for shape, _ in shapes]
    return (
        [Shape("rays", "")]
        if sum(shape.kind == "ray" for shape in found) > 1
        else [s for s in found if s.kind != "ray"]
    )


def _polygon_kind(points: list[list[float]]) -> tuple[str, str]:
    at_hoist = [point for point in points if point[0] == 0]
    tip = max(points)
    if len(points) == 3:
        if len(at_hoist) == 2 and abs(tip[1] - 0.5) < 0.05:
            return "triangle", "left"
        if not at_hoist and tip[0] < 1:
            return "triangle", "centre"
        return (
            ("", "")
            if [1, 1] in points and len(at_hoist) == 1 and [0, 1] in points and [1, 0] in points
            else ("ray", "")
        )
    if len(points) > 8 and len(at_hoist) == 2:
        return "zigzag edge", "left"
    if len(points) == 4 and len(at_hoist) == 2:
        return "trapezoid", "left"
    spans = (
        min(p[0] for p in points) < 0.1
        and tip[0] > 0.9
        and min(p[1] for p in points) == 0
        and max(p[1] for p in points) == 1
    )
    if len(points) in (4, 6) and spans:
        return "diagonal band", ""
    return ("diamond", _place(*(sum(p[axis] for p in points) / 4 for axis in (0, 1)))) if len(points) == 4 else ("", "")


def _emblems(layers: list[Layer]) -> list[Shape]:
    """Discs, crescents, wheels and stars; a star with a smaller one on its spot is that one's edge."""
    shapes: list[Shape] = []
    last: tuple[str, list[float]] | None = None
    for layer in layers:
        kind = next((name for name in EMBLEMS if name in layer), None)
        if kind is None:
            continue
        colour = colour_name(layer[kind])
        if kind == "star_rows":
            left, top, right, bottom = layer["box"]
            place = _place((left + right) / 2, (top + bottom) / 2)
            shapes.append(Shape("star", colour, place, sum(layer["rows"])))
            continue
        place = _place(*layer["at"])
        if kind == "ring_of_stars":
            shapes.append(Shape("star", colour, place, layer["count"]))
        elif last == ("star", layer["at"]):
            if kind == "star":
                shapes[-1] = Shape("star", colour, place, edge=shapes[-1].colour)
            continue  # a disc on a star is the middle of a sun
        else:
            shapes.append(Shape({"pentagram": "star", "hexagram": "star"}.get(kind, kind), colour, place))
        last = (kind, layer["at"])
    return shapes


def _counted(shapes: list[Shape]) -> list[Shape]:
    """Shapes of one kind, colour and edge as one, with their number; the place only where it is that of all."""
    found: dict[tuple[str, str, str], Shape] = {}
    for shape in shapes:
        key = (shape.kind, shape.colour, shape.edge)
        if key in found:
            same = found[key].place if found[key].place == shape.place else ""
            found[key] = replace(found[key], count=found[key].count + shape.count, place=same)
        else:
            found[key] = shape
    return list(found.values())


def main() -> None:
    """Print what is read out of flags."""
    parser = argparse.ArgumentParser(description="what is read out of the geometry of flags")
    parser.add_argument("codes", nargs="*", help="ISO codes; all unless given")
    flags = tomllib.loads((HERE / "flags.toml").read_text(encoding="utf-8"))
    for code in parser.parse_args().codes or sorted(flags):
        facts = read_flag(flags[code])
        print(code, sorted(facts.colours), facts.field or f"{facts.direction} {'-'.join(facts.stripes)}", *facts.shapes)


if __name__ == "__main__":
    main()
