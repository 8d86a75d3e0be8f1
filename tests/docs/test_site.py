"""The site can be built, its links lead somewhere, and every name it speaks of exists."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tfsqueeze

ROOT = Path(__file__).parents[2]
FOLDERS = ("", "docs/**/", "notebooks/", "recipes/")
PAGES = sorted({path for folder in FOLDERS for path in ROOT.glob(f"{folder}*.md")})
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
NAME = re.compile(r"\btfs((?:\.[A-Za-z]\w*)+)")


def page_id(path):
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    titles = (re.sub(r"[^\w\- ]", "", title.lower()) for title in HEADING.findall(text))
    return {title.strip().replace(" ", "-") for title in titles}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; a warning, such as of a link that leads nowhere, is an error."""
    pytest.importorskip("mkdocs", reason="the site needs pip install 'tfsqueeze[docs]'")
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow
def test_the_reference_has_every_public_name(site):
    text = "".join(page.read_text() for page in site.glob("reference/**/index.html"))
    modules = {"distillation": tfsqueeze.distillation, "schedules": tfsqueeze.schedules}
    inner = {f"{module}.{name}" for module, value in modules.items() for name in value.__all__}
    inner |= {*tfsqueeze.__all__, "callbacks.OverflowCallback"}
    names = inner - {*modules, "callbacks", "__version__"}
    assert not [name for name in sorted(names) if f'id="tfs.{name}"' not in text]


@pytest.mark.slow
def test_a_name_in_code_leads_to_its_entry(site):
    assert 'href="../reference/pruning/#tfs.prune"' in (site / "pruning" / "index.html").read_text()


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(site):
    loaded = re.compile(
        r"<(?:script|img)[^>]* src=\"?(https?:[^\" >]+)|<link[^>]* rel=\"?stylesheet[^>]*https?:"
    )
    assert not [page for page in site.rglob("*.html") if loaded.search(page.read_text())]


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_links_lead_somewhere_in_the_repository_too(path):
    for link in LINK.findall(path.read_text()):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("page", ["pruning", "channels", "quantization", "architecture", "resolution"])
def test_pages_and_what_shows_them_lead_to_each_other(page):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    notebooks = re.findall(r"\(\.\./(notebooks/\w+\.ipynb)\)", text)
    assert notebooks and all(f"docs/{page}.md" in (ROOT / name).read_text() for name in notebooks)
    assert re.search(r"\(\.\./recipes/\w+\.py\)", text)
    assert f"(../docs/{page}.md" in (ROOT / "recipes" / "README.md").read_text()


@pytest.mark.slow
def test_links_to_notebooks_lead_to_the_repository(site):
    text = (site / "pruning" / "index.html").read_text()
    assert "https://github.com/tfsqueeze/tfsqueeze/blob/main/notebooks/02_pruning.ipynb" in text


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_names_exist(path):
    for dotted in NAME.findall(path.read_text()):
        value = tfsqueeze
        for part in dotted.strip(".").split("."):
            if isinstance(value, type) and not hasattr(value, part):
                break
            value = getattr(value, part)
