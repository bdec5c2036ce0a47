"""A page in the form of WikiWeb2M, with every official field, as a JSON line and as a record.

Alps (0), below it History (1, two pictures) and Geography (3, one picture), below History the empty section Early (2).
"""

from tests.tasks.tfrecord_files import sequence_example

TEXTS = ("section_image_url", "section_image_captions", "section_image_mime_type", "section_image_alt_text",
         "section_image_raw_attr_desc", "section_image_clean_attr_desc", "section_image_raw_ref_desc",
         "section_image_clean_ref_desc")  # fmt: skip
NUMBERS = ("section_image_width", "section_image_height", "section_image_in_wit", "is_image_caption_sample")


def picture(name, caption):
    return {
        "section_image_url": f"https://upload.example.org/{name}",
        "section_image_captions": caption,
        "section_image_mime_type": "image/jpeg",
        "section_image_alt_text": f"alt {caption}",
        "section_image_raw_attr_desc": f"raw attribution {caption}",
        "section_image_clean_attr_desc": f"attribution {caption}",
        "section_image_raw_ref_desc": f"raw reference {caption}",
        "section_image_clean_ref_desc": f"reference {caption}",
        "section_image_width": 640,
        "section_image_height": 480,
        "section_image_in_wit": 1,
        "is_image_caption_sample": 0,
    }


def section(index, title, parent, first, rest, *images, **more):
    return {
        "section_index": index,
        "section_title": title,
        "section_depth": 0 if parent == -1 else 1,
        "section_heading_level": 2,
        "section_parent_index": parent,
        "section_subsection_index": [],
        "section_text": f"{first}\n{rest}",
        "section_clean_1st_sentence": first,
        "section_raw_1st_sentence": f"{first}\t",
        "section_rest_sentence": rest,
        "is_section_summarization_sample": 1,
        "section_contains_table_or_list": 0,
        "section_contains_images": int(bool(images)),
        "section_images": list(images),
        **more,
    }


def alps():
    """A fresh page; a test changes it before it is written."""
    return {
        "split": "train",
        "page_title": "Alps",
        "page_url": "https://en.wikipedia.org/wiki/Alps",
        "clean_page_description": "The Alps are mountains. They are high.",
        "raw_page_description": "The Alps are mountains.\nThey are high.",
        "is_page_description_sample": 1,
        "page_contains_images": 1,
        "page_content_sections_without_table_list": 3,
        "sections": [
            section(0, "Alps", -1, "The Alps are mountains.", "They are high."),
            section(1, "History", 0, "People came early.", "Many stayed.",
                    picture("a.jpg", "a hut"), picture("b.png", ""), section_subsection_index=[2]),
            section(2, "Early", 1, "", "", is_section_summarization_sample=0),
            section(3, "Geography", 0, "They reach from Nice to Vienna.", "Mont Blanc is highest.",
                    picture("c.jpg", "Mont Blanc")),
        ],
    }  # fmt: skip


def as_record(page, *, in_one_feature=False, pads=None):
    """The bytes of a record: lists of pictures padded to one length, behind them or where `pads` says, by section."""
    sections = page["sections"]
    lists = {
        name: [[each[name] for each in sections]] if in_one_feature else [[each[name]] for each in sections]
        for name in sections[0]
        if name not in ("section_images", "section_subsection_index")
    }
    lists["section_subsection_index"] = [each["section_subsection_index"] for each in sections]
    rows = [list(each["section_images"]) for each in sections]
    for place, at in (pads or {}).items():
        rows[place].insert(at, {})
    width = max(map(len, rows))
    for names, pad in ((TEXTS, ""), (NUMBERS, 0)):
        for name in names:
            lists[name] = [[image.get(name, pad) for image in row] + [pad] * (width - len(row)) for row in rows]
    return sequence_example({name: [found] for name, found in page.items() if name != "sections"}, lists)
