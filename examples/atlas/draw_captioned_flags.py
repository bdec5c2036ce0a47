"""Write pictures of flags with captions: what the recipe ``contrastive/atlas_clip`` of `mmkg train` learns from.

    python examples/atlas/draw_captioned_flags.py FOLDER
    python examples/atlas/draw_captioned_flags.py FOLDER --made 200      # a small one, for a try

``FOLDER/index.tsv`` has a row for each picture and caption: file, split, shows (which flag), kind and statement of the
caption (see ``flag_captions.py``), caption. The splits:

* ``train``: made-up flags, and every second one of the atlas.
* ``valid``: made-up flags, each drawn as it is and distorted.
* ``test``: the other half of the atlas, of which nothing was trained on; a made-up flag that would have the same full
  caption as one of them is thrown away.
* ``test_distorted``: these, distorted three times each.
* ``atlas``: all flags of the atlas as they are, for questions to the whole of it.
* ``look_alike``: all flags of the atlas, as they are and distorted four times: which flag looks like this one?

Distortions are drawn in another way than the augmentation of the recipe makes them, and go further.
"""

import argparse
import io
import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from draw_flags import HERE, draw_flag, paint_flag
from flag_captions import Caption, write_captions
from flag_geometry import read_flag
from made_flags import FlagMaker
from PIL import Image, ImageEnhance, ImageFilter

MADE_FLAGS, VALID_FLAGS = 12000, 250
MADE_WIDTH_PX, MADE_OVERSAMPLING = 96, 4
COLUMNS = ("file", "split", "shows", "kind", "statement", "caption")


@dataclass
class Index:
    """The rows of ``index.tsv``, and the folder that gets the pictures."""

    folder: Path
    rows: list[str] = field(default_factory=lambda: ["\t".join(COLUMNS)])

    def add(self, image: Image.Image, name: str, split: str, shows: str, captions: list[Caption]) -> None:
        """Keep a picture of a flag under a name, with all its captions."""
        file = f"{split}/{name}.png"
        (self.folder / split).mkdir(parents=True, exist_ok=True)
        image.save(self.folder / file)
        self.rows += ["\t".join((file, split, shows, c.kind, c.statement, c.text)) for c in captions]

    def write(self) -> None:
        """Write the index, once all pictures are there."""
        (self.folder / "index.tsv").write_text("\n".join(self.rows) + "\n", encoding="utf-8")


def is_held_out(place: int) -> bool:
    """Whether the flag at this place of the alphabet of ISO codes is tested on, not trained on."""
    return place % 2 == 1


def make_flags(count: int, forbidden: set[str], random_seed: int) -> Iterator[tuple[Image.Image, list[Caption]]]:
    """Made-up flags with captions, none of them with a full caption that is forbidden."""
    maker, words = FlagMaker(random.Random(f"{random_seed} geometry")), random.Random(f"{random_seed} words")
    while count:
        description = maker.make()
        captions = write_captions(read_flag(description), words)
        if captions[0].statement not in forbidden:
            yield paint_flag(description, width_px=MADE_WIDTH_PX, oversampling=MADE_OVERSAMPLING), captions
            count -= 1


def distort(image: Image.Image, randomness: random.Random) -> Image.Image:
    """The flag as a bad photograph would show it: turned, cut, in front of something, off colour, small, blurred."""
    flag = image.convert("RGB").resize(
        (randomness.randint(120, 360), randomness.randint(90, 220)), Image.Resampling.BICUBIC
    )
    background = tuple(randomness.randrange(256) for _ in range(3))
    if randomness.random() < 0.5:  # in front of something
        margin_x, margin_y = (round(side * randomness.uniform(0.02, 0.12)) for side in flag.size)
        whole = Image.new("RGB", (flag.width + 2 * margin_x, flag.height + 2 * margin_y), background)
        whole.paste(flag, (randomness.randint(0, 2 * margin_x), randomness.randint(0, 2 * margin_y)))
        flag = whole
    else:  # cut at its edges
        cuts = [randomness.uniform(0, 0.07) for _ in range(4)]
        box = (flag.width * cuts[0], flag.height * cuts[1], flag.width * (1 - cuts[2]), flag.height * (1 - cuts[3]))
        flag = flag.crop(tuple(round(edge) for edge in box))
    flag = flag.rotate(randomness.uniform(-12, 12), Image.Resampling.BICUBIC, fillcolor=background)
    for enhance, spread in ((ImageEnhance.Brightness, 0.3), (ImageEnhance.Contrast, 0.3), (ImageEnhance.Color, 0.35)):
        flag = enhance(flag).enhance(randomness.uniform(1 - spread, 1 + spread))
    scale = randomness.uniform(56, 200) / flag.width
    flag = flag.resize((round(flag.width * scale), max(24, round(flag.height * scale))), Image.Resampling.BILINEAR)
    flag = flag.filter(ImageFilter.GaussianBlur(randomness.uniform(0, flag.width / 80)))
    buffer = io.BytesIO()
    flag.save(buffer, "JPEG", quality=randomness.randint(15, 60))
    return Image.open(buffer).convert("RGB")


def write_all(folder: Path, *, made: int = MADE_FLAGS, valid: int = VALID_FLAGS, random_seed: int = 0) -> int:
    """Write everything; return how many pictures."""
    flags: dict[str, Any] = tomllib.loads((HERE / "flags.toml").read_text(encoding="utf-8"))
    index, spoil = Index(folder), random.Random(f"{random_seed} distortions")
    captions = {code: write_captions(read_flag(flags[code]), random.Random(f"{random_seed} {code}")) for code in flags}
    held_out = [code for place, code in enumerate(sorted(flags)) if is_held_out(place)]
    forbidden = {captions[code][0].statement for code in held_out}
    for number, (image, words) in enumerate(make_flags(made, forbidden, random_seed)):
        index.add(image, f"{number:05}", "train", f"train {number}", words)
    forbidden |= {row.split("\t")[4] for row in index.rows if "\texact\t" in row}
    for number, (image, words) in enumerate(make_flags(valid, forbidden, random_seed + 1_000_003)):
        index.add(image, f"{number:05}", "valid", f"valid {number}", words)
        index.add(distort(image, spoil), f"{number:05}-distorted", "valid", f"valid {number}", words)
    for code in sorted(flags):
        image, name, words = draw_flag(flags[code]), code.lower(), captions[code]
        index.add(image, name, "atlas", code, words)
        index.add(image, name, "test" if code in held_out else "train", code, words)
        index.add(image, name, "look_alike", code, words)
        for number in range(4):
            index.add(distort(image, spoil), f"{name}-{number}", "look_alike", code, words)
        for number in range(3 if code in held_out else 0):
            index.add(distort(image, spoil), f"{name}-{number}", "test_distorted", code, words)
    index.write()
    return sum(1 for _ in folder.rglob("*.png"))


def main() -> None:
    """Read the arguments, write, say how many."""
    parser = argparse.ArgumentParser(description="pictures of flags with captions")
    parser.add_argument("folder", type=Path, help="gets the pictures and index.tsv")
    parser.add_argument("--made", type=int, default=MADE_FLAGS, help="made-up flags to train on")
    parser.add_argument("--valid", type=int, default=VALID_FLAGS, help="made-up flags to choose the model by")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn at random")
    arguments = parser.parse_args()
    count = write_all(arguments.folder, made=arguments.made, valid=arguments.valid, random_seed=arguments.seed)
    print(f"{count:,} pictures in {arguments.folder}")


if __name__ == "__main__":
    main()
