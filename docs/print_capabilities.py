"""Print docs/capabilities.md from the tests: which test would fail if a capability of the published systems were gone.

A test says so itself: ``@pytest.mark.capability("MR-09")``. Run ``python docs/print_capabilities.py`` after adding one.
"""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "capabilities.md"
_HEAD = """# Capabilities and the tests that show them

Printed by `docs/print_capabilities.py` from the marks of the tests. MR: MR-MKG (ACL 2024), G4: Graph4MM
(ICML 2025). A capability is there when such a test would fail without it.

| capability | shown by |
| --- | --- |
"""


def _marks(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """Ids in the capability marks over a test."""
    calls = [
        d for d in node.decorator_list if isinstance(d, ast.Call) and ast.unparse(d.func) == "pytest.mark.capability"
    ]
    return [str(argument.value) for call in calls for argument in call.args if isinstance(argument, ast.Constant)]


def make_page() -> str:
    """The page as it should be."""
    shown: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                for capability in _marks(node):
                    shown[capability].append(f"`{path.relative_to(ROOT)}::{node.name}`")
    return _HEAD + "".join(f"| {name} | {', '.join(tests)} |\n" for name, tests in sorted(shown.items()))


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
