"""Made-up pictures with captions: a coloured shape on a grey ground, small enough to be learnt in seconds."""

import random
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {"red": (210, 20, 30), "blue": (20, 50, 190), "yellow": (250, 210, 30), "black": (5, 5, 5)}
SHAPES = ("disc", "bar", "cross")


def draw_shape(colour: str, shape: str, jitter: random.Random) -> Image.Image:
    image = Image.new("RGB", (40, 30), (160, 160, 160))
    pen, ink = ImageDraw.Draw(image), COLOURS[colour]
    x, y = 20 + jitter.randint(-3, 3), 15 + jitter.randint(-3, 3)
    if shape == "disc":
        pen.ellipse((x - 8, y - 8, x + 8, y + 8), fill=ink)
    if shape in ("bar", "cross"):
        pen.rectangle((0, y - 3, 39, y + 3), fill=ink)
    if shape == "cross":
        pen.rectangle((x - 3, 0, x + 3, 29), fill=ink)
    return image


def write_pictures(folder: Path, *, each: int = 12, split: bool = True) -> Path:
    """``each`` pictures of every colour and shape to train on, two to choose by, two to test on."""
    jitter, rows = random.Random(0), []
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", each), ("valid", 2), ("test", 2)):
        for colour in COLOURS:
            for shape in SHAPES:
                for number in range(count):
                    file = f"{name}-{colour}-{shape}-{number}.png"
                    draw_shape(colour, shape, jitter).save(folder / file)
                    for kind, caption in (
                        ("whole", f"a {colour} {shape}"),
                        ("shape", f"a {shape}"),
                        ("colour", colour),
                    ):
                        rows.append([file, name, f"{colour} {shape}", kind, caption])
    columns = ["file", "split", "shows", "kind", "caption"]
    if not split:
        rows, columns = [[row[0], row[2], row[4]] for row in rows], ["file", "shows", "caption"]
    lines = ["\t".join(line) for line in [columns, *rows]]
    (folder / "index.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
