"""Draw the flags of ``flags.toml`` and list them in ``flags/index.tsv``: the pictures of the atlas.

    python examples/atlas/draw_flags.py                  # into examples/atlas/flags
    python examples/atlas/draw_flags.py --output DIR

Each flag is drawn 8 times too large, averaged down to 240 px of width, and stored with a palette of at most 32 colours.
"""

import argparse
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atlas_tables import dbpedia_iri, read_table
from PIL import Image, ImageChops, ImageDraw

HERE = Path(__file__).parent
WIDTH_PX = 240
OVERSAMPLING = 8
PALETTE_COLOURS = 32
PENTAGRAM_INNER = (3 - math.sqrt(5)) / 2  # inner corners of a five-pointed star with straight edges
Point = tuple[float, float]
Layer = dict[str, Any]


class Canvas:
    """A flag while it is painted; coordinates as ``flags.toml`` explains."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.image = Image.new("RGB", (width, height), "#FFFFFF")
        self.pen = ImageDraw.Draw(self.image)

    def place(self, at: list[float]) -> Point:
        """Parts of width and height to pixels."""
        return at[0] * self.width, at[1] * self.height

    def fill(self, colour: str, points: list[Point]) -> None:
        """A filled polygon in pixels."""
        self.pen.polygon(points, fill=colour)

    def box(self, colour: str, box: list[float]) -> None:
        """A filled rectangle; the right and lower edges do not belong to it."""
        (left, top), (right, bottom) = self.place(box[:2]), self.place(box[2:])
        self.pen.rectangle((round(left), round(top), round(right) - 1, round(bottom) - 1), fill=colour)

    def circle(self, pen: ImageDraw.ImageDraw, at: list[float], radius: float, fill: str | int) -> None:
        """A disc; the radius in parts of the height."""
        x, y = self.place(at)
        reach = radius * self.height
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)

    def star_points(self, at: list[float], radius: float, points: int, turn: float, inner: float) -> list[Point]:
        """Corners of a star, the first one up, then clockwise, all turned by ``turn`` degrees."""
        x, y = self.place(at)
        corners = []
        for step in range(2 * points):
            reach = radius * self.height * (1.0 if step % 2 == 0 else inner)
            angle = math.radians(turn + 180.0 * step / points)
            corners.append((x + reach * math.sin(angle), y - reach * math.cos(angle)))
        return corners


def paint_stripes(canvas: Canvas, layer: Layer) -> None:
    """Bands over the whole flag, of equal or given weights."""
    colours = layer["stripes"]
    weights = layer.get("weights", [1] * len(colours))
    start = 0.0
    for colour, weight in zip(colours, weights, strict=True):
        end = start + weight / sum(weights)
        vertical = layer["direction"] == "vertical"
        canvas.box(colour, [start, 0, end, 1] if vertical else [0, start, 1, end])
        start = end


def paint_rectangle(canvas: Canvas, layer: Layer) -> None:
    """A box."""
    canvas.box(layer["rectangle"], layer["box"])


def paint_cross(canvas: Canvas, layer: Layer) -> None:
    """Two bars over the whole flag that meet at a point."""
    (x, y), half = layer["at"], layer["width"] / 2
    half_x = half * canvas.height / canvas.width
    canvas.box(layer["cross"], [0, y - half, 1, y + half])
    canvas.box(layer["cross"], [x - half_x, 0, x + half_x, 1])


def paint_saltire(canvas: Canvas, layer: Layer) -> None:
    """Both diagonals."""
    width, height = canvas.width, canvas.height
    for ends in (((0, 0), (width, height)), ((0, height), (width, 0))):
        canvas.fill(layer["saltire"], bar(*ends, layer["width"] * height))


def bar(start: Point, end: Point, width: float) -> list[Point]:
    """A straight bar of a width, a little longer than its ends so that corners are filled."""
    length = math.dist(start, end)
    along = ((end[0] - start[0]) / length, (end[1] - start[1]) / length)
    side = (-along[1] * width / 2, along[0] * width / 2)
    tail = (start[0] - along[0] * width, start[1] - along[1] * width)
    head = (end[0] + along[0] * width, end[1] + along[1] * width)
    return [
        (tail[0] + side[0], tail[1] + side[1]),
        (head[0] + side[0], head[1] + side[1]),
        (head[0] - side[0], head[1] - side[1]),
        (tail[0] - side[0], tail[1] - side[1]),
    ]


def paint_disc(canvas: Canvas, layer: Layer) -> None:
    """A full circle."""
    canvas.circle(canvas.pen, layer["at"], layer["radius"], layer["disc"])


def paint_polygon(canvas: Canvas, layer: Layer) -> None:
    """Any polygon."""
    canvas.fill(layer["polygon"], [canvas.place(point) for point in layer["points"]])


def paint_star(canvas: Canvas, layer: Layer) -> None:
    """A star; five points with straight edges unless told otherwise."""
    inner = layer.get("inner", PENTAGRAM_INNER)
    points, turn = layer.get("points", 5), layer.get("turn", 0)
    canvas.fill(layer["star"], canvas.star_points(layer["at"], layer["radius"], points, turn, inner))


def paint_crescent(canvas: Canvas, layer: Layer) -> None:
    """A disc out of which another disc is taken."""
    mask = Image.new("1", (canvas.width, canvas.height), 0)
    pen = ImageDraw.Draw(mask)
    canvas.circle(pen, layer["at"], layer["radius"], 1)
    canvas.circle(pen, layer["bite_at"], layer["bite_radius"], 0)
    canvas.image.paste(Image.new("RGB", mask.size, layer["crescent"]), (0, 0), mask)


def paint_pentagram(canvas: Canvas, layer: Layer) -> None:
    """Five interlaced bars; a larger star cuts their ends to points."""
    corners = canvas.star_points(layer["at"], layer["radius"], 5, 0, PENTAGRAM_INNER)[::2]
    reach = layer["radius"] + layer["width"] / 2 / math.sin(math.radians(18))  # half the angle of a corner
    cut = Image.new("1", (canvas.width, canvas.height), 0)
    ImageDraw.Draw(cut).polygon(canvas.star_points(layer["at"], reach, 5, 0, PENTAGRAM_INNER), fill=1)
    bars = Image.new("1", cut.size, 0)
    pen = ImageDraw.Draw(bars)
    for index in range(5):
        pen.polygon(bar(corners[index], corners[(index + 2) % 5], layer["width"] * canvas.height), fill=1)
    canvas.image.paste(Image.new("RGB", cut.size, layer["pentagram"]), (0, 0), ImageChops.logical_and(cut, bars))


def paint_hexagram(canvas: Canvas, layer: Layer) -> None:
    """Two outlined triangles."""
    width = round(layer["width"] * canvas.height)
    for turn in (0, 60):
        corners = canvas.star_points(layer["at"], layer["radius"], 3, turn, 0.5)[::2]
        canvas.pen.line([*corners, corners[0], corners[1]], fill=layer["hexagram"], width=width, joint="curve")


def paint_ring_of_stars(canvas: Canvas, layer: Layer) -> None:
    """Upright stars on a circle, the first one at its top."""
    x, y = layer["at"]
    for index in range(layer["count"]):
        angle = math.tau * index / layer["count"]
        reach = layer["circle"] * canvas.height / canvas.width
        at = [x + reach * math.sin(angle), y - layer["circle"] * math.cos(angle)]
        paint_star(canvas, {"star": layer["ring_of_stars"], "at": at, "radius": layer["radius"]})


def paint_star_rows(canvas: Canvas, layer: Layer) -> None:
    """Rows of stars inside a box, every second row shifted where it has one star less."""
    left, top, right, bottom = layer["box"]
    rows, widest = layer["rows"], max(layer["rows"])
    for row, count in enumerate(rows):
        y = top + (bottom - top) * (row + 1) / (len(rows) + 1)
        for column in range(count):
            x = left + (right - left) * (2 * column + 1 + widest - count) / (2 * widest)
            paint_star(canvas, {"star": layer["star_rows"], "at": [x, y], "radius": layer["radius"]})


def paint_wheel(canvas: Canvas, layer: Layer) -> None:
    """A rim, a hub and thin spokes."""
    x, y = canvas.place(layer["at"])
    reach, colour = layer["radius"] * canvas.height, layer["wheel"]
    thick = reach / 8
    canvas.pen.ellipse((x - reach, y - reach, x + reach, y + reach), outline=colour, width=round(thick))
    for spoke in range(layer["spokes"]):
        angle = math.tau * spoke / layer["spokes"]
        end = (x + (reach - thick) * math.sin(angle), y - (reach - thick) * math.cos(angle))
        canvas.pen.line([(x, y), end], fill=colour, width=round(thick / 3))
    canvas.pen.ellipse((x - reach / 6, y - reach / 6, x + reach / 6, y + reach / 6), fill=colour)


def paint_union_jack(canvas: Canvas, layer: Layer) -> None:
    """The flag of the United Kingdom: two saltires, the red one off centre, under two crosses (30ths of the height)."""
    (left, top), (right, bottom) = canvas.place(layer["box"][:2]), canvas.place(layer["box"][2:])
    part = Canvas(round(right - left), round(bottom - top))
    width, height = part.width, part.height
    unit = height / 30
    part.box("#012169", [0, 0, 1, 1])
    paint_saltire(part, {"saltire": "#FFFFFF", "width": 6 / 30})
    centre = (width / 2, height / 2)
    for corner in ((0, 0), (width, 0), (width, height), (0, height)):
        # Each red arm is 2 units wide and lies anticlockwise of its diagonal: at the hoist, white is uppermost.
        reach = 2 * unit / math.dist(corner, centre)
        side = ((corner[1] - centre[1]) * reach, (centre[0] - corner[0]) * reach)
        outer = (2 * corner[0] - centre[0], 2 * corner[1] - centre[1])
        shifted = [(x + side[0], y + side[1]) for x, y in (outer, centre)]
        part.fill("#C8102E", [centre, outer, *shifted])
    for colour, thick in (("#FFFFFF", 10 / 30), ("#C8102E", 6 / 30)):
        paint_cross(part, {"cross": colour, "at": [0.5, 0.5], "width": thick})
    canvas.image.paste(part.image, (round(left), round(top)))


PAINTERS: dict[str, Callable[[Canvas, Layer], None]] = {
    "stripes": paint_stripes,
    "rectangle": paint_rectangle,
    "cross": paint_cross,
    "saltire": paint_saltire,
    "disc": paint_disc,
    "polygon": paint_polygon,
    "star": paint_star,
    "crescent": paint_crescent,
    "pentagram": paint_pentagram,
    "hexagram": paint_hexagram,
    "ring_of_stars": paint_ring_of_stars,
    "star_rows": paint_star_rows,
    "wheel": paint_wheel,
    "union_jack": paint_union_jack,
}


def paint_flag(description: dict[str, Any], *, width_px: int, oversampling: int) -> Image.Image:
    """One flag in RGB, painted ``oversampling`` times too large and averaged down; 1 leaves its edges hard."""
    tall, wide = (int(part) for part in description["ratio"].split(":"))
    height_px = round(width_px * tall / wide)
    canvas = Canvas(width_px * oversampling, height_px * oversampling)
    for layer in description["layers"]:
        kind = next((name for name in PAINTERS if name in layer), None)
        if kind is None:
            raise ValueError(f"no known kind of layer in {layer}; known: {', '.join(PAINTERS)}")
        PAINTERS[kind](canvas, layer)
    return canvas.image.reduce(oversampling)


def draw_flag(description: dict[str, Any]) -> Image.Image:
    """One flag, 240 px wide, with a palette."""
    small = paint_flag(description, width_px=WIDTH_PX, oversampling=OVERSAMPLING)
    return small.quantize(PALETTE_COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def draw_all(output: Path, tables: Path = HERE) -> int:
    """Draw every flag and write the index; return how many."""
    output.mkdir(parents=True, exist_ok=True)
    countries = {row["iso2"]: row for row in read_table(tables / "countries.tsv")}
    flags = tomllib.loads((tables / "flags.toml").read_text(encoding="utf-8"))
    lines = ["file\tiso2\tdbpedia\tlabel"]
    for iso2, description in sorted(flags.items()):
        file = f"{iso2.lower()}.png"
        draw_flag(description).save(output / file, optimize=True)
        lines.append(f"{file}\t{iso2}\t{dbpedia_iri(countries[iso2]['title'])}\t{countries[iso2]['name']}")
    (output / "index.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(flags)


def main() -> None:
    """Read the arguments, draw, say how many."""
    parser = argparse.ArgumentParser(description="draw the flags of the atlas")
    parser.add_argument("--output", type=Path, default=HERE / "flags", help="folder that gets the pictures")
    print(f"{draw_all(parser.parse_args().output)} flags")


if __name__ == "__main__":
    main()
