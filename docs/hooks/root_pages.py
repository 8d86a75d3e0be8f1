"""Shows CONTRIBUTING.md and CHANGELOG.md, which stand at the root of the repository, as pages of the site."""

from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_config(config):
    contributing = next(item["Contributing"] for item in config.nav if "Contributing" in item)
    contributing[:0] = [PAGES["CONTRIBUTING.md"]]
    contributing += [PAGES["CHANGELOG.md"]]
    return config


def on_files(files, config):
    for name, page in PAGES.items():
        text = (ROOT / name).read_text().replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files
