"""Pictures of a finished build: those of an entity, their bytes, and a sheet of them to look at."""

import dataclasses
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont

from mmkg.builds.opened import Build, Entity
from mmkg.errors import NotFound
from mmkg.shards import Archive, write_bytes
from mmkg.tables import IMAGE_BYTES, PICTURES

_CELL_PX, _GAP_PX, _CAPTION_PX, _COLUMNS, _FONT_PX = 160, 12, 24, 6, 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class EntityPicture:
    """A picture of an entity: one that was kept, or one that was not, with the reason."""

    entity_index: int
    rank: int | None  # 0 is the best; None unless it was kept
    status: str  # ok | why not
    reason: str
    sha256: str | None  # None where nothing came
    url: str
    format: str | None
    width_px: int | None
    height_px: int | None
    licence: str | None
    author: str | None
    source_page: str | None
    score: float | None  # cosine with "a picture of LABEL, a TYPE"


def pictures_of(build: Build, entities: Iterable[Entity], *, rejected: bool = False) -> list[EntityPicture]:
    """The pictures of some entities: by entity_index, kept ones by rank, then the others by address.

    Args:
        build: a finished build; one without pictures gives none.
        entities: of that build.
        rejected: also those that were not kept.
    """
    if not build.has_pictures:
        return []
    indices = pa.array([entity.entity_index for entity in entities], pa.int64())
    condition = pc.field("entity_index").isin(indices)
    if not rejected:
        condition &= pc.field("status") == "ok"
    names = [field.name for field in dataclasses.fields(EntityPicture)]
    rows = build.images.to_table(columns=names, filter=condition).to_pylist()
    rows.sort(key=lambda row: (row["entity_index"], row["rank"] is None, row["rank"] or 0, row["url"]))
    return [EntityPicture(**row) for row in rows]


def read_pictures(build: Build, sha256s: Sequence[str], *, as_served: bool = False) -> dict[str, bytes]:
    """The bytes of some pictures.

    Args:
        build: a finished build.
        sha256s: of the bytes as served.
        as_served: these very bytes; else the normalised picture: PNG or JPEG, RGB, upright.

    Raises:
        NotFound: the build does not have one of them.
    """
    table, schema, column = ("image_bytes", IMAGE_BYTES, "bytes") if as_served else ("pictures", PICTURES, "normalised")
    rows = Archive(build.folder / table, schema, "sha256").find(sha256s, ["sha256", column])
    found = {row["sha256"]: row[column] for row in rows.to_pylist() if row[column] is not None}
    for sha256 in sha256s:
        if sha256 not in found:
            raise NotFound(f"{build.folder}: no picture {sha256[:16]}… here. The column sha256 of `images` lists all.")
    return found


def draw_sheet(pictures: Sequence[tuple[str, bytes]], target: Path) -> None:
    """Draw pictures side by side, each with a caption below it, to a PNG file.

    Args:
        pictures: caption and bytes of each, in the order in which they are drawn, six in a row.
        target: gets its name when it is whole.
    """
    import matplotlib  # half a second, for a font that is the same on every machine

    columns = max(1, min(_COLUMNS, len(pictures)))
    rows = max(1, -(-len(pictures) // columns))
    step_x, step_y = _CELL_PX + _GAP_PX, _CELL_PX + _CAPTION_PX + _GAP_PX
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", _FONT_PX)
    sheet = Image.new("RGB", (columns * step_x + _GAP_PX, rows * step_y + _GAP_PX), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (caption, content) in enumerate(pictures):
        left, top = _GAP_PX + place % columns * step_x, _GAP_PX + place // columns * step_y
        with Image.open(io.BytesIO(content)) as picture:
            picture.thumbnail((_CELL_PX, _CELL_PX))
            sheet.paste(picture, (left + (_CELL_PX - picture.width) // 2, top + (_CELL_PX - picture.height) // 2))
        pen.text((left, top + _CELL_PX + 4), _fit(caption, font), fill="black", font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_bytes(target, buffer.getvalue())


def _fit(caption: str, font: ImageFont.FreeTypeFont) -> str:
    """As much of a caption as fits below a picture."""
    if font.getlength(caption) <= _CELL_PX:
        return caption
    while caption and font.getlength(caption + "…") > _CELL_PX:
        caption = caption[:-1]
    return caption + "…"
