"""Leads links to notebooks and recipes, which are no pages of the site, to the repository."""

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUTSIDE = re.compile(r"\]\(\.\./((?:notebooks|recipes)/[^)]*)\)")


def on_page_markdown(markdown, page, config, files):
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    return OUTSIDE.sub(rf"]({settings['metadata']['url']}/blob/main/\1)", markdown)
