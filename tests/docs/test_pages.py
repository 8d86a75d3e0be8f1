"""What the pages say of the project is so: messages, tests and figures they quote are still there."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from tests.docs.blocks import blocks

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GAP = "…"


def _sources(folder):
    return [path.read_text() for path in sorted((ROOT / folder).rglob("*.py"))]


def _wording(node) -> str | None:
    """A text of the source, its values left out."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


@pytest.fixture(scope="module")
def wordings():
    nodes = (node for source in _sources("tfsqueeze") for node in ast.walk(ast.parse(source)))
    return "\n".join(wording for node in nodes if (wording := _wording(node)))


MESSAGES = [" ".join(block.code.split()) for block in blocks(DOCS / "troubleshooting.md", "text")]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_still_given(message, wordings):
    assert message in wordings


def test_the_tests_that_stand_for_the_compatibility_exist():
    tests = "\n".join(_sources("tests"))
    named = re.findall(r"`(test_\w+)`", (DOCS / "compatibility.md").read_text())
    assert named and not [name for name in named if f"def {name}(" not in tests]


def test_the_results_are_those_of_the_pages_that_explain_them():
    found = importlib.util.spec_from_file_location("results", DOCS / "hooks" / "results.py")
    results = importlib.util.module_from_spec(found)
    found.loader.exec_module(results)
    text = (DOCS / "results.md").read_text()
    assert results.gathered(text) == text, "run: python docs/hooks/results.py"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.stem)
def test_benchmarks_exist(page):
    named = re.findall(r"tests[./]benchmarks[./](\w+)", page.read_text())
    assert not [name for name in named if not (ROOT / "tests" / "benchmarks" / f"{name}.py").exists()]
