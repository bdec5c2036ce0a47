"""Make up flags in the form of ``flags.toml``: drawn from random geometry, so that a model sees more than 118 of them.

What is drawn at random: the ground (stripes, a field, a cross, a saltire, a diagonal band, quarters), what lies on it,
and all sizes, places and colours. Colours keep off the borders between names, so that "orange" is orange to everybody.
"""

import colorsys
import random
from collections.abc import Callable
from typing import Any

from flag_geometry import colour_name

Layer = dict[str, Any]
# name: how often, hue in degrees, saturation, value
PALETTE: dict[str, tuple[int, tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": (6, (-12, 10), (0.8, 1.0), (0.68, 1.0)),
    "white": (6, (0, 0), (0.0, 0.0), (0.96, 1.0)),
    "blue": (5, (205, 245), (0.75, 1.0), (0.32, 0.75)),
    "green": (5, (108, 166), (0.65, 1.0), (0.3, 0.75)),
    "yellow": (5, (44, 58), (0.75, 1.0), (0.93, 1.0)),
    "black": (4, (0, 0), (0.0, 0.0), (0.0, 0.06)),
    "light blue": (3, (192, 211), (0.45, 1.0), (0.86, 1.0)),
    "orange": (2, (20, 34), (0.8, 1.0), (0.88, 1.0)),
    "maroon": (1, (340, 356), (0.7, 0.9), (0.45, 0.58)),
    "teal": (1, (178, 190), (0.9, 1.0), (0.45, 0.6)),
}
RATIOS = ("1:2", "2:3", "2:3", "3:5", "5:8", "10:19", "3:4", "1:1", "28:37")
STRIPE_COUNTS = (2, 2, 3, 3, 3, 3, 3, 4, 5, 5, 7, 9, 11, 13)


class FlagMaker:
    """Makes up one flag after another from one stream of random numbers."""

    def __init__(self, randomness: random.Random) -> None:
        self.random = randomness
        self._used: list[str] = []

    def make(self) -> dict[str, Any]:
        """One description, as an entry of ``flags.toml``."""
        self._used = []
        grounds: list[tuple[int, Callable[[], list[Layer]]]] = [
            (9, self._striped),
            (6, self._plain),
            (4, self._crossed),
            (1, self._saltire),
            (1, self._diagonal),
            (1, self._quarters),
            (1, self._zigzag),
        ]
        ground = self.random.choices([make for _, make in grounds], [weight for weight, _ in grounds])[0]
        return {"ratio": self.random.choice(RATIOS), "layers": ground()}

    # --- colours and numbers

    def _colour(self, *, on: str = "") -> str:
        """A colour that the flag does not have yet as a rule, and never that of what it lies on."""
        names = [name for name in PALETTE if name != on]
        weights = [PALETTE[name][0] * (0.15 if name in self._used else 1.0) for name in names]
        name = self.random.choices(names, weights)[0]
        self._used.append(name)
        return self._shade(name)

    def _shade(self, name: str) -> str:
        _, *ranges = PALETTE[name]
        while True:
            hue, saturation, value = (self.random.uniform(*limits) for limits in ranges)
            channels = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
            shade = "#" + "".join(f"{round(255 * channel):02X}" for channel in channels)
            if colour_name(shade) == name:
                return shade

    def _near(self, value: float, spread: float) -> float:
        return round(value + self.random.uniform(-spread, spread), 4)

    def _chance(self, share: float) -> bool:
        return self.random.random() < share

    # --- grounds

    def _striped(self) -> list[Layer]:
        count = self.random.choice(STRIPE_COUNTS)
        direction = self.random.choice(("horizontal", "horizontal", "vertical")) if count < 5 else "horizontal"
        if count >= 5 and (count > 5 or self._chance(0.4)):
            pair = [self._colour()]
            pair.append(self._colour(on=colour_name(pair[0])))
            colours = [pair[place % 2] for place in range(count)]
        else:
            colours = [self._colour()]
            while len(colours) < count:
                colours.append(self._colour(on=colour_name(colours[-1])))
            if count in (3, 5) and self._chance(0.3):
                colours[count // 2 + 1 :] = colours[: count // 2][::-1]
        stripes: Layer = {"stripes": colours, "direction": direction}
        if count < 6 and self._chance(0.25):
            half = [self.random.choice((1, 1, 2, 3)) for _ in range(count)]
            stripes["weights"] = half
        layers = [stripes]
        middle = colour_name(colours[len(colours) // 2])
        add = self.random.choices(("", "triangle", "band", "canton", "emblem"), (5, 3, 2, 3 if count > 3 else 1, 4))[0]
        if add == "triangle":
            layers += self._triangle(middle)
        elif add == "band" and direction == "horizontal":
            layers += self._band(middle)
        elif add == "canton" and direction == "horizontal":
            layers += self._canton(colour_name(colours[0]))
        elif add == "emblem":
            layers += self._emblem((self._near(0.5, 0.02), self._near(0.5, 0.02)), 0.24 if count <= 3 else 0.17, middle)
        return layers

    def _field(self, colour: str) -> Layer:
        return {"rectangle": colour, "box": [0, 0, 1, 1]}

    def _plain(self) -> list[Layer]:
        colour = self._colour()
        name = colour_name(colour)
        layers = [self._field(colour)]
        add = self.random.choices(
            ("emblem", "canton", "scattered", "triangle", "band", "bars", "box"), (7, 3, 3, 2, 2, 2, 1)
        )[0]
        if add == "emblem":
            at = self.random.choice(((0.5, 0.5), (0.5, 0.5), (0.25, 0.5), (0.22, 0.25), (0.75, 0.5)))
            reach = 0.33 if at[1] == 0.5 else 0.18
            layers += self._emblem((self._near(at[0], 0.03), self._near(at[1], 0.02)), reach, name)
        elif add == "canton":
            layers += self._canton(name)
            if self._chance(0.4):
                layers += self._stars(name, (0.62, 0.15, 0.92, 0.85), self.random.randint(3, 6))
        elif add == "scattered":
            layers += self._stars(name, (0.15, 0.15, 0.85, 0.85), self.random.randint(2, 9))
        elif add == "triangle":
            layers += self._triangle(name)
        elif add == "band":
            layers += self._band(name)
            layers += self._emblem((self._near(0.65, 0.03), 0.5), 0.25, name) if self._chance(0.6) else []
        elif add == "bars":
            layers += self._bars(name)
        else:
            inner, margin = self._colour(on=name), self._near(0.18, 0.06)
            layers.append({"rectangle": inner, "box": [margin, margin * 1.3, 1 - margin, 1 - margin * 1.3]})
            layers += self._emblem((0.5, 0.5), 0.2, colour_name(inner)) if self._chance(0.7) else []
        return layers

    def _crossed(self) -> list[Layer]:
        colour = self._colour()
        field = self._field(colour)
        cross = self._colour(on=colour_name(colour))
        if self._chance(0.3):
            return [field, *self._small_cross(cross, (self._near(0.5, 0.01), 0.5), self._near(0.3, 0.06))]
        at = [self._near(0.37, 0.03) if self._chance(0.7) else 0.5, 0.5]
        width = self._near(0.19, 0.06)
        layers = [field, {"cross": cross, "at": at, "width": width}]
        if self._chance(0.4):
            layers.append(
                {
                    "cross": self._colour(on=colour_name(cross)),
                    "at": at,
                    "width": round(width * self._near(0.5, 0.08), 4),
                }
            )
        elif at[0] == 0.5 and self._chance(0.3):
            for x in (0.22, 0.78):
                for y in (0.2, 0.8):
                    layers += self._small_cross(cross, (x, y), 0.1)
        return layers

    def _small_cross(self, colour: str, at: tuple[float, float], reach: float) -> list[Layer]:
        (x, y), thick = at, reach * self._near(0.3, 0.07)
        wide = self._near(0.66, 0.06)  # of the height, as if most flags were 2:3
        boxes = [
            (x - reach * wide, y - thick, x + reach * wide, y + thick),
            (x - thick * wide, y - reach, x + thick * wide, y + reach),
        ]
        return [{"rectangle": colour, "box": [round(edge, 4) for edge in box]} for box in boxes]

    def _saltire(self) -> list[Layer]:
        colour = self._colour()
        layers = [self._field(colour)]
        if self._chance(0.5):
            sides = self._colour(on=colour_name(colour))
            layers += [
                {"polygon": sides, "points": [[0, 0], [0.5, 0.5], [0, 1]]},
                {"polygon": sides, "points": [[1, 0], [0.5, 0.5], [1, 1]]},
            ]
        name = colour_name(colour)
        layers.append({"saltire": self._colour(on=name), "width": self._near(0.17, 0.05)})
        return layers

    def _diagonal(self) -> list[Layer]:
        colour = self._colour()
        layers = [self._field(colour)]
        reach, falling = self._near(0.2, 0.06), self._chance(0.4)
        if self._chance(0.5):
            half = self._colour(on=colour_name(colour))
            layers.append(
                {"polygon": half, "points": [[1, 0], [1, 1], [0, 1]] if not falling else [[0, 0], [1, 1], [0, 1]]}
            )
        edge = self._colour(on=colour_name(colour))
        for number, shade in enumerate([edge, self._colour(on=colour_name(edge))][: self.random.randint(1, 2)]):
            cut = reach * (1 - 0.3 * number)
            points = [[0, 1], [0, 1 - cut * 1.4], [1 - cut, 0], [1, 0], [1, cut * 1.4], [cut, 1]]
            if falling:
                points = [[x, 1 - y] for x, y in points]
            layers.append({"polygon": shade, "points": [[round(x, 4), round(y, 4)] for x, y in points]})
        return layers

    def _quarters(self) -> list[Layer]:
        one = self._colour()
        layers = [self._field(one)]
        first, second = self._colour(on=colour_name(one)), self._colour(on=colour_name(one))
        layers += [{"rectangle": first, "box": [0.5, 0, 1, 0.5]}, {"rectangle": second, "box": [0, 0.5, 0.5, 1]}]
        for shade, at in ((second, [0.25, 0.25]), (first, [0.75, 0.75])):
            layers += [{"star": shade, "at": at, "radius": self._near(0.13, 0.03)}] if self._chance(0.6) else []
        return layers

    def _zigzag(self) -> list[Layer]:
        colour = self._colour()
        teeth, left, right = self.random.randint(5, 9), self._near(0.26, 0.03), self._near(0.38, 0.03)
        points: list[list[float]] = [[0, 0]]
        for tooth in range(teeth):
            points += [[left, round(tooth / teeth, 4)], [right, round((tooth + 0.5) / teeth, 4)]]
        return [
            self._field(colour),
            {"polygon": self._colour(on=colour_name(colour)), "points": [*points, [left, 1], [0, 1]]},
        ]

    # --- what lies on them

    def _triangle(self, on: str) -> list[Layer]:
        colour, tip = self._colour(on=on), self._near(0.38, 0.13)
        layers: list[Layer] = [{"polygon": colour, "points": [[0, 0], [tip, 0.5], [0, 1]]}]
        if self._chance(0.15):
            colour = self._colour(on=colour_name(colour))
            layers.append({"polygon": colour, "points": [[0, 0], [round(tip * 0.62, 4), 0.5], [0, 1]]})
            tip *= 0.62
        if self._chance(0.4):
            layers += self._emblem((tip * 0.36, 0.5), min(0.2, tip * 0.38), colour_name(colour), small=True)
        return layers

    def _band(self, on: str) -> list[Layer]:
        colour, width = self._colour(on=on), self._near(0.3, 0.08)
        layers: list[Layer] = [{"rectangle": colour, "box": [0, 0, width, 1]}]
        if self._chance(0.3):
            layers += self._emblem((width / 2, 0.5), width * 0.5, colour_name(colour))
        return layers

    def _bars(self, on: str) -> list[Layer]:
        colour, width = self._colour(on=on), self._near(0.12, 0.05)
        starts = self.random.choice(([0.5 - width / 2], [0.1, 0.9 - width], [self._near(0.6, 0.08)]))
        layers: list[Layer] = [
            {"rectangle": colour, "box": [0, round(start, 4), 1, round(start + width, 4)]} for start in starts
        ]
        if len(starts) == 2:
            layers += self._emblem((0.5, 0.5), 0.2, on)
        elif self._chance(0.5):
            layers += self._emblem((self._near(0.25, 0.03), self._near(0.22, 0.02)), 0.15, on)
        return layers

    def _canton(self, on: str) -> list[Layer]:
        box = [0, 0, self._near(0.42, 0.1), self._near(0.5, 0.07)]
        if self._chance(0.2):
            return [{"union_jack": True, "box": [0, 0, 0.5, 0.5]}]
        colour = self._colour(on=on)
        name, middle = colour_name(colour), (box[2] / 2, box[3] / 2)
        layers: list[Layer] = [{"rectangle": colour, "box": box}]
        add = self.random.choices(("", "emblem", "cross", "rows"), (1, 4, 2, 2))[0]
        if add == "emblem":
            layers += self._emblem(middle, min(0.2, box[2] / 2), name)
        elif add == "cross":
            layers += self._small_cross(self._colour(on=name), middle, 0.19)
        elif add == "rows":
            many = self.random.choice(([3, 2, 3], [4, 3, 4, 3], [5, 4, 5, 4, 5], [6, 5, 6, 5, 6, 5, 6, 5, 6]))
            radius = round(0.14 / len(many), 4)
            layers.append({"star_rows": self._colour(on=name), "rows": many, "box": box, "radius": radius})
        return layers

    def _stars(self, on: str, box: tuple[float, float, float, float], count: int) -> list[Layer]:
        """Stars that keep apart, in one colour; sometimes each with an edge."""
        colour, radius = self._colour(on=on), self._near(0.08, 0.025)
        edge = self._colour(on=on) if self._chance(0.2) else ""
        places: list[tuple[float, float]] = []
        for _ in range(200):
            x, y = self.random.uniform(box[0], box[2]), self.random.uniform(box[1], box[3])
            if len(places) < count and all(abs(x - a) + abs(y - b) > 2.4 * radius for a, b in places):
                places.append((round(x, 4), round(y, 4)))
        turn = self.random.choice((0, 0, 18, 36))
        layers: list[Layer] = []
        for at in places:
            one: Layer = {"star": edge or colour, "at": list(at), "radius": radius, "turn": turn}
            layers.append(one)
            if edge and colour_name(edge) != colour_name(colour):
                layers.append(one | {"star": colour, "radius": round(radius * 0.68, 4)})
        return layers

    def _emblem(self, at: tuple[float, float], reach: float, on: str, *, small: bool = False) -> list[Layer]:
        """One thing, or a crescent and a star, that fits a circle of the radius ``reach``."""
        x, y = round(at[0], 4), round(at[1], 4)
        colour, radius = self._colour(on=on), round(max(0.05, reach * self._near(0.85, 0.15)), 4)
        kinds = (
            "star",
            "disc",
            "moon",
            "moon and star",
            "on disc",
            "ring",
            "wheel",
            "outline",
            "diamonds",
            "triangle",
            "two discs",
        )
        weights = (6, 4, 1, 4, 2, 0 if small else 2, 1, 1, 0 if small else 1, 0 if small else 1, 0)
        kind = self.random.choices(kinds, weights)[0]
        at = [x, y]  # type: ignore[assignment]
        if kind == "star":
            star: Layer = {"star": colour, "at": at, "radius": radius}
            if self._chance(0.3):
                star |= {"points": self.random.choice((6, 7, 8, 12, 14)), "inner": self._near(0.48, 0.05)}
            return [star]
        if kind == "disc":
            return [{"disc": colour, "at": at, "radius": radius}]
        if kind.startswith("moon"):
            return self._moon(colour, x, y, radius, star=kind.endswith("star"))
        if kind == "on disc":
            disc, name = {"disc": colour, "at": at, "radius": radius}, colour_name(colour)
            if self._chance(0.5):
                return [
                    disc,
                    {"star": self._colour(on=name), "at": [x, round(y + 0.0001, 4)], "radius": round(radius * 0.8, 4)},
                ]
            return [disc, *self._moon(self._colour(on=name), x, y, radius * 0.7, star=True)]
        if kind == "ring":
            count = self.random.randint(5, 12)
            return [
                {
                    "ring_of_stars": colour,
                    "count": count,
                    "at": at,
                    "circle": radius,
                    "radius": round(radius * 1.6 / count, 4),
                }
            ]
        if kind == "wheel":
            return [{"wheel": colour, "at": at, "radius": radius, "spokes": self.random.choice((8, 12, 24))}]
        if kind == "outline":
            return [
                {
                    self.random.choice(("pentagram", "hexagram")): colour,
                    "at": at,
                    "radius": radius,
                    "width": round(radius / 6, 4),
                }
            ]
        if kind == "diamonds":
            wide, count = 0.09, self.random.choice((1, 2, 3))
            starts = [x + (place - (count - 1) / 2) * 0.17 for place in range(count)]
            return [
                {
                    "polygon": colour,
                    "points": [
                        [round(s, 4), round(y - 0.18, 4)],
                        [round(s + wide * 0.8, 4), y],
                        [round(s, 4), round(y + 0.18, 4)],
                        [round(s - wide * 0.8, 4), y],
                    ],
                }
                for s in starts
            ]
        return [
            {
                "polygon": colour,
                "points": [
                    [x, round(y - radius, 4)],
                    [round(x - radius * 0.6, 4), round(y + radius * 0.7, 4)],
                    [round(x + radius * 0.6, 4), round(y + radius * 0.7, 4)],
                ],
            }
        ]

    def _moon(self, colour: str, x: float, y: float, radius: float, *, star: bool) -> list[Layer]:
        bite = round(radius * self._near(0.82, 0.04), 4)
        moon: Layer = {"crescent": colour, "at": [x, y], "radius": round(radius, 4), "bite_radius": bite}
        moon["bite_at"] = [round(x + radius * 0.2, 4), y]
        beside: Layer = {
            "star": colour,
            "at": [round(x + radius * 0.42, 4), y],
            "radius": round(radius * 0.45, 4),
            "turn": -18,
        }
        return [moon, beside] if star else [moon]
