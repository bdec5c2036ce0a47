"""A folder in the form of Visual Genome: three pictures, seven objects, five questions, and the usual dirt.

Image 1 (40 x 30): a brown dog on green grass, and a sky whose box lies beyond the picture; image 2 (20 x 20): two cups
with the same box; image 3 has objects and no picture.
"""

import json
from pathlib import Path

from PIL import Image, ImageDraw

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def thing(object_id, name, x, y, w, h, **more):
    return {"object_id": object_id, "names": [name], "x": x, "y": y, "w": w, "h": h, "synsets": [], **more}


def related(relationship_id, subject, predicate, other):
    ends = {"subject": {"object_id": subject}, "object": {"object_id": other}}
    return {"relationship_id": relationship_id, "predicate": predicate, "synsets": [], **ends}


def region(region_id, image_id, **more):
    box = {"x": 0, "y": 0, "width": 20, "height": 20}
    return {"region_id": region_id, "image_id": image_id, "phrase": f"region  {region_id}", **box, **more}


def asked(qa_id, image_id, question="What is it?", answer="A dog."):
    sets = {"a_objects": [], "q_objects": []}
    return {"qa_id": qa_id, "image_id": image_id, "question": question, "answer": answer, **sets}


def parts() -> dict[str, list | dict]:
    """File name to content; a test changes it before it is written."""
    return {
        "image_data.json": [
            {"image_id": 1, "width": 40, "height": 30, "url": "https://example.org/VG_100K/1.jpg"},
            {"image_id": 2, "width": 20, "height": 20, "url": "https://example.org/VG_100K_2/2.jpg"},
        ],
        "objects.json": [
            {
                "image_id": 1,
                "objects": [
                    thing(10, "dog", 5, 5, 10, 8, merged_object_ids=[19]),
                    thing(11, "grass", -5, 20, 60, 20),
                    thing(12, "sky", 50, 0, 10, 5),
                ],
            },
            {"image_id": 2, "objects": [thing(20, "cup", 2, 2, 6, 6), thing(21, "cup", 2, 2, 6, 6)]},
            {"image_id": 3, "objects": [thing(30, "cat", 0, 0, 5, 5), thing(31, "mat", 0, 0, 9, 9)]},
        ],
        "attributes.json": [
            {"image_id": 1, "attributes": [{"object_id": 10, "attributes": ["brown", "Brown ", "small"]}]},
            {"image_id": 1, "attributes": [{"object_id": 11, "attributes": ["green"]}, {"object_id": 12}]},
        ],
        "relationships.json": [
            {"image_id": 1, "relationships": [related(1, 10, "ON", 11), related(2, 12, "above", 19)]},
            {"image_id": 2, "relationships": [related(3, 20, "next  to", 21), related(4, 20, "on", 21)]},
            {"image_id": 3, "relationships": []},
        ],
        "region_descriptions.json": [
            {"id": 1, "regions": [region(100, 1), region(101, 1)]},
            {"id": 2, "regions": [region(200, 2)]},
            {"id": 3, "regions": [region(300, 3)]},
        ],
        "question_answers.json": [
            {"id": 1, "qas": [asked(1, 1), asked(2, 1, "Where is it?", "On grass."), asked(3, 1)]},
            {"id": 2, "qas": [asked(4, 2, "What are they?", "Cups.")]},
            {"id": 3, "qas": [asked(5, 3)]},
        ],
        "qa_to_region_mapping.json": {"1": 100, "2": 101, "4": 200, "5": 300},
    }


def write_files(folder: Path, files: dict[str, list | dict]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def draw_pictures(folder: Path) -> Path:
    """Image 1 below VG_100K: red dog on blue, green from row 20 on; image 2: all blue."""
    (folder / "VG_100K").mkdir(parents=True, exist_ok=True)
    first = Image.new("RGB", (40, 30), BLUE)
    draw = ImageDraw.Draw(first)
    draw.rectangle((5, 5, 14, 12), fill=RED)
    draw.rectangle((0, 20, 39, 29), fill=GREEN)
    first.save(folder / "VG_100K" / "1.png")
    Image.new("RGB", (20, 20), BLUE).save(folder / "2.png")
    return folder
