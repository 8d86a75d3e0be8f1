"""Gathers the tables of measured results on docs/results.md from the pages that explain them.

    python docs/hooks/results.py

A table stands between two comments, of which the first says where it comes from: the page, and words of the
table (with a number in front where they are in several).

    <!-- table 2: pruning.md: zeros | tfmot -->
    <!-- end of table -->
"""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1]
PLACE = re.compile(
    r"(<!-- table(?: (?P<number>\d+))?: (?P<page>\S+): (?P<words>.*?) -->\n)"
    r"(?:.*?\n)??(<!-- end of table -->)",
    re.DOTALL,
)


def gathered(text: str) -> str:
    """The page with every table as it is now in the page it comes from."""
    return PLACE.sub(lambda place: f"{place[1]}\n{_table(place)}\n{place[5]}", text)


def _table(place) -> str:
    page = (DOCS / place["page"]).read_text()
    tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    found = [table for table in tables if place["words"] in table]
    number = int(place["number"] or 1)
    if len(found) < number:
        raise ValueError(f"{place['page']} has {len(found)} tables with {place['words']!r}.")
    return found[number - 1]


if __name__ == "__main__":
    results = DOCS / "results.md"
    results.write_text(gathered(results.read_text()))
