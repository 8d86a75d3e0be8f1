"""The code of a page of documentation, as the tests run it.

Comments that readers do not see say what a block needs:

    <!-- tests: code that is run at this place -->
    <!-- tests replace: what stands in the next block -> what is run instead -->
    <!-- not run: the reason why the next block is for reading only -->
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

_TOKEN = re.compile(
    r"^<!-- (?P<kind>tests|tests replace|not run): (?P<note>.*?)\s*-->$"
    r"|^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """Code of a page and the line it begins in."""

    code: str
    line: int

    def compiled(self, path: Path):
        """The code, such that errors in it point to the page."""
        return compile("\n" * (self.line - 1) + self.code, str(path), "exec")


def blocks(path: Path, language: str) -> list[Block]:
    """The blocks of one language in a page, in order, those that are not run left out.

    Args:
        path: a page in Markdown.
        language: the word behind the fence; with "python" the code in comments counts too.
    """
    text, found, changes, is_run = path.read_text(), [], [], True
    for token in _TOKEN.finditer(text):
        line = text.count("\n", 0, token.start()) + 1
        if token["kind"] == "tests replace":
            changes.append(token["note"].split(" -> "))
        elif token["kind"] == "not run":
            is_run = False
        elif token["kind"] == "tests" and language == "python":
            found.append(Block(token["note"], line))
        elif token["language"]:
            if token["language"] == language and is_run:
                found.append(Block(_changed(token["code"], changes), line + 1))
            changes, is_run = [], True
    return found


def _changed(code: str, changes) -> str:
    for old, new in changes:
        if old not in code:
            raise ValueError(f"{old!r} does not stand in the block that it is to be replaced in:\n{code}")
        code = code.replace(old, new)
    return code


def names_used(codes) -> set[str]:
    """Every name that some of the codes read."""
    nodes = (node for code in codes for node in ast.walk(ast.parse(code)))
    return {node.id for node in nodes if isinstance(node, ast.Name)}
