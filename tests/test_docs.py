"""What the pages say is what the code does."""

import re
import runpy
from pathlib import Path

from mmkg.cli import app

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_of_capabilities_is_fresh():
    script = runpy.run_path(str(ROOT / "docs" / "print_capabilities.py"))
    page = (ROOT / "docs" / "capabilities.md").read_text(encoding="utf-8")
    assert page == script["make_page"](), "run python docs/print_capabilities.py"


def test_every_command_that_a_page_shows_exists():
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    for group in app.registered_groups:
        commands = group.typer_instance.registered_commands
        known |= {f"{group.name} {command.name or command.callback.__name__}" for command in commands}
    groups = "|".join(group.name for group in app.registered_groups)
    shown = set()
    pages = ("README.md", "CONTRIBUTING.md", "examples/mmkb/README.md", "docs/pictures.md")
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        shown |= set(re.findall(rf"^(?:\$ )?mmkg ((?:{groups}) [a-z]+|[a-z]+)", text, re.MULTILINE))
    assert "images status" in shown
    assert shown <= known


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []
