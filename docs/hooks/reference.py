"""Makes the API reference: a page per folder of the package, with every public name and what it returns.

No list is kept by hand: the names are those of `tfsqueeze.__all__`, found without importing the package. On
the other pages a name in code, such as `tfs.prune`, becomes a link to its entry.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
MODULES = ("callbacks", "distillation", "schedules")
FOLDERS_OF_THEIR_OWN = ("pruning.channels",)
TITLES = {"core": "Selection and errors", "models": "Loading", "recipe": "Recipes"}
NAME_IN_CODE = re.compile(r"(?<![\[`])`(tfs(?:\.\w+)+)(\([^`]*\))?`(?!\])")
FENCE = re.compile(r"^ *(```|~~~)")


@dataclass(frozen=True)
class Entry:
    """A public name.

    Attributes:
        shown: the name as users write it, "tfs.prune".
        path: where it is defined, "tfsqueeze.pruning.one_shot.prune".
        returned: whether it is the class of a result, which users receive but do not name.
    """

    shown: str
    path: str
    returned: bool = False

    @property
    def page(self) -> str:
        parts = self.path.split(".")[1:-1]
        if self.shown.startswith("tfs.schedules."):
            return "schedules"
        joined = ".".join(parts[:2])
        return joined.replace(".", "-") if joined in FOLDERS_OF_THEIR_OWN else parts[0]


def public_entries(package: griffe.Module) -> list[Entry]:
    """Every name of `tfsqueeze.__all__`, its modules opened, then the classes of the results."""
    lazy = ast.literal_eval(str(package["_ON_FIRST_USE"].value))
    entries = {}
    for name in map(str, package.exports):
        if name in MODULES:
            module = package[name]
            for inner in map(str, module.exports):
                path = module.members[inner].target_path
                entries.setdefault(path, Entry(f"tfs.{name}.{inner}", path))
        elif not name.startswith("_"):
            path = f"{lazy[name]}.{name}" if name in lazy else package.members[name].target_path
            entries[path] = Entry(f"tfs.{name}", path)
    for path in list(entries):
        for result in _results(package, path):
            entries.setdefault(result, Entry(result.rsplit(".", 1)[-1], result, returned=True))
    return list(entries.values())


def _results(package, path):
    """Paths of the package's own classes in the annotation of what a function returns."""
    found = _object(package, path)
    if not found.is_function or found.returns is None:
        return
    for part in found.returns.iterate(flat=True):
        target = getattr(part, "canonical_path", "")
        if target.startswith("tfsqueeze."):
            yield target


def _object(package, path):
    return package[path.removeprefix("tfsqueeze.")]


def _title(page: str) -> str:
    return TITLES.get(page, page.rsplit("-", 1)[-1].capitalize())


def _summary(package, entry) -> str:
    docstring = _object(package, entry.path).docstring
    return docstring.value.strip().splitlines()[0].replace("|", "\\|") if docstring else ""


def _page(title: str, entries) -> str:
    parts = [f"# {title}\n"]
    for entry in entries:
        parts += [f"[](){{#{entry.shown}}}\n" if not entry.returned else ""]
        parts += [f"::: {entry.path}\n    options:\n      heading: {entry.shown}\n"]
    return "\n".join(parts)


def _index(package, pages) -> str:
    lines = ["# API reference\n", "Made from the docstrings. `import tfsqueeze as tfs` gives every name.\n"]
    for page, entries in pages.items():
        lines += [f"## [{_title(page)}]({page}.md)\n", "| | |", "|---|---|"]
        lines += [f"| [`{e.shown}`][{e.path}] | {_summary(package, e)} |" for e in entries if not e.returned]
        lines += [""]
    return "\n".join(lines)


def _pages(entries) -> dict[str, list[Entry]]:
    pages = {}
    for entry in sorted(entries, key=lambda entry: (entry.page, entry.returned)):
        pages.setdefault(entry.page, []).append(entry)
    return pages


def on_config(config):
    package = griffe.load("tfsqueeze", search_paths=[str(ROOT)])
    entries = public_entries(package)
    pages = _pages(entries)
    config.extra["reference"] = {"reference/index.md": _index(package, pages)} | {
        f"reference/{page}.md": _page(_title(page), entries) for page, entries in pages.items()
    }
    config.extra["reference_names"] = {entry.shown for entry in entries}
    config.nav.append({"API reference": list(config.extra["reference"])})
    return config


def on_files(files, config):
    for path, text in config.extra["reference"].items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links the public names in code to their entries, where they stand in text and tables."""
    names = config.extra["reference_names"]

    def linked(match):
        name = match[1].replace("tfs.callbacks.", "tfs.") if match[1] not in names else match[1]
        return f"[{match[0]}][{name}]" if name in names else match[0]

    lines, fenced = [], False
    for line in markdown.splitlines():
        fenced ^= bool(FENCE.match(line))
        keep = fenced or line.startswith("#") or page.file.src_uri.startswith("reference/")
        lines.append(line if keep else NAME_IN_CODE.sub(linked, line))
    return "\n".join(lines)
