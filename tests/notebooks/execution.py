"""Running notebooks from the top, in a clean kernel and an empty folder.

    python -m tests.notebooks.execution notebooks/02_pruning.ipynb

stores what the cells show, without what libraries write to stderr.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

SECONDS_PER_CELL = 300


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in a folder."""
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS_PER_CELL, kernel_name="python3", resources=place).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def main() -> None:
    """Runs the notebooks named on the command line, and stores them with their outputs."""
    for path in map(Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, Path(folder)), path)
        print(path, flush=True)


if __name__ == "__main__":
    main()
