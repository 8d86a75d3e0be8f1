"""Every example of the README and of the pages runs, with a tiny model under the names that it uses."""

import shlex
from pathlib import Path

import click
import pytest
import yaml

import tfsqueeze
from tests.docs.blocks import blocks, names_used
from tests.docs.namespace import namespace
from tfsqueeze.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})


def having(language):
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in PAGES if blocks(path, language)]


@pytest.mark.slow
@pytest.mark.parametrize("path", having("python"))
def test_the_examples_of_a_page_run(path, tmp_path, monkeypatch, quiet):
    monkeypatch.chdir(tmp_path)
    found = blocks(path, "python")
    values = namespace(names_used(block.code for block in found))
    for block in found:
        exec(block.compiled(path), values)


@pytest.mark.parametrize("path", having("bash"))
def test_commands_and_their_options_exist(path):
    lines = "\n".join(block.code for block in blocks(path, "bash")).replace("\\\n", " ").splitlines()
    for line in lines:
        words = shlex.split(line.split("&&")[-1], comments=True)
        if words[:1] == ["tfsqueeze"]:
            command = cli.commands[words[1]]
            with click.Context(command) as context:
                command.make_parser(context).parse_args(words[2:])


@pytest.mark.parametrize("path", having("yaml"))
def test_recipes_are_valid(path):
    for block in blocks(path, "yaml"):
        written = yaml.safe_load(block.code)
        if isinstance(written, list):
            written = {"steps": written}
        assert tfsqueeze.Recipe.from_dict(written).to_dict()["steps"]
