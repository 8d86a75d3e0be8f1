"""Every notebook runs from a clean kernel and shows what its text says; each is ready for Colab."""

import ast
import configparser
import re
from pathlib import Path

import keras
import nbformat
import numpy as np
import pytest

from tests.notebooks import expectations
from tests.notebooks.execution import executed

ROOT = Path(__file__).parents[2]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
MOST_BYTES = 300_000


def read(name):
    return nbformat.read(NOTEBOOKS[name], as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(notebook, tag):
    (cell,) = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]
    return cell


def summary(notebook):
    """The figures that the last code cell shows."""
    (output,) = tagged(notebook, "summary").outputs
    return ast.literal_eval(output.data["text/plain"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_runs_from_a_clean_kernel_with_the_results_it_tells(name, tmp_path):
    notebook = executed(NOTEBOOKS[name], tmp_path)
    getattr(expectations, f"check_{name[3:]}")(summary(notebook), tmp_path)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_stored_outputs_are_complete_and_hold_the_same_results(name, tmp_path):
    notebook = read(name)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run it from the top"
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert NOTEBOOKS[name].stat().st_size < MOST_BYTES
    getattr(expectations, f"check_{name[3:]}")(summary(notebook), None)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_has_the_four_buttons(name):
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    address = settings["metadata"]["url"]
    repository, file = address.removeprefix("https://github.com/"), f"{name}.ipynb"
    text = read(name).cells[0].source
    for link in (
        f"[View on nbviewer](https://nbviewer.org/github/{repository}/blob/main/notebooks/{file})",
        f"(https://colab.research.google.com/github/{repository}/blob/main/notebooks/{file})",
        f"[View source on GitHub]({address}/blob/main/notebooks/{file})",
        f"[Download notebook]({address}/raw/main/notebooks/{file})",
    ):
        assert link in text
    assert f"git+{address}" in tagged(read(name), "install").source


@pytest.mark.parametrize("tag", ["install", "setup", "data"])
def test_all_begin_with_the_same_cells(tag):
    assert len({tagged(read(name), tag).source for name in NOTEBOOKS}) == 1


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_links_between_notebooks_lead_somewhere(name):
    text = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (ROOT / "notebooks" / target).exists(), target


@pytest.mark.parametrize("data", ["digits", "mnist", "cifar10"])
def test_the_data_cell_gives_images_of_one_form(data, monkeypatch):
    shape = {"mnist": (28, 28), "cifar10": (32, 32, 3)}.get(data)
    if shape is not None:
        labels = np.arange(5, dtype="uint8")[:, None] if data == "cifar10" else np.arange(5, dtype="uint8")
        arrays = (np.full((5, *shape), 255, "uint8"), labels)
        monkeypatch.setattr(getattr(keras.datasets, data), "load_data", lambda: (arrays, arrays))
    source = tagged(read("01_start_here"), "data").source
    values = {"keras": keras, "np": np}
    exec(source.replace('DATA = "digits"', f'DATA = "{data}"'), values)
    for part in ("train", "test"):
        images, labels = values[f"x_{part}"], values[f"y_{part}"]
        assert images.ndim == 4 and images.dtype == "float32" and images.min() >= 0 and images.max() == 1
        assert labels.shape == (len(images),)
