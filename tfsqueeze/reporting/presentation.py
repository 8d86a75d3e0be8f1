"""How reports show themselves: as a table when printed, as Markdown, as JSON."""

import io
import json
from typing import Any

TEXT_WIDTH = 100


class Presentation:
    """Printing and export for a class with `tables()` and `to_dict()`."""

    def tables(self) -> list:
        """The `tables.Table`s to show."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain data of everything shown."""
        raise NotImplementedError

    def to_json(self, path=None, *, indent: int = 2) -> str:
        """The report as JSON text.

        Args:
            path: a file to write it to as well, or None.
            indent: spaces per level.
        """
        text = json.dumps(self.to_dict(), indent=indent, allow_nan=False, default=str)
        return _written(text, path)

    def to_markdown(self, path=None) -> str:
        """The tables in GitHub's Markdown.

        Args:
            path: a file to write it to as well, or None.
        """
        return _written("\n\n".join(table.to_markdown() for table in self.tables()), path)

    def __rich_console__(self, console, options):
        yield from (table.to_rich() for table in self.tables())

    def __str__(self) -> str:
        from rich.console import Console

        buffer = io.StringIO()
        # In a notebook rich would display the tables itself and leave the text empty; FORCE_COLOR, which
        # notebooks set, would have it write control codes.
        plain = {"no_color": True, "force_jupyter": False, "force_terminal": False}
        Console(file=buffer, width=TEXT_WIDTH, **plain).print(self)
        return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return self.to_markdown()


def _written(text: str, path) -> str:
    if path is not None:
        from tfsqueeze.core.files import atomic_write

        with atomic_write(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    return text
