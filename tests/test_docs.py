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
    shown = set()
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "mmkb" / "README.md"):
        shown |= set(re.findall(r"^(?:\$ )?mmkg ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert shown
    assert shown <= known


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []
