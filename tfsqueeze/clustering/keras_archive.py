"""What a `.keras` file holds, with the arrays taken out and put back: anything Keras can save."""

import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from tfsqueeze.core.checks import UnsupportedModelError

WEIGHTS = "model.weights.h5"


@dataclass
class KerasArchive:
    """The content of a `.keras` file.

    Attributes:
        members: the zip's other members (configuration, assets), by name.
        attributes: of HDF5 groups and arrays that have some, by path.
        groups: paths of HDF5 groups without arrays below them.
        arrays: the numbers, by HDF5 path.
    """

    members: dict[str, bytes]
    attributes: dict[str, dict] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def read_archive(path: Path) -> KerasArchive:
    """Reads a `.keras` file; the optimizer's state stays behind.

    Raises:
        UnsupportedModelError: if it holds something that is no number.
    """
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist() if not name.endswith("/")}
    if WEIGHTS not in members:
        raise UnsupportedModelError(
            f"{str(path)!r} does not keep its weights in one {WEIGHTS}. Save the model without sharding."
        )
    archive = KerasArchive(members)
    with h5py.File(io.BytesIO(members.pop(WEIGHTS)), "r") as weights:
        _read_group(weights, "", archive)
    return archive


def write_archive(archive: KerasArchive, path: Path) -> None:
    """Writes a `.keras` file."""
    content = io.BytesIO()
    with h5py.File(content, "w") as weights:
        for group in archive.groups:
            weights.require_group(group)
        for name, array in archive.arrays.items():
            weights.create_dataset(name, data=array)
        for name, attributes in archive.attributes.items():
            (weights[name] if name else weights).attrs.update(attributes)
    with zipfile.ZipFile(path, "w") as file:
        for name, member in (*archive.members.items(), (WEIGHTS, content.getvalue())):
            file.writestr(name, member)


def _read_group(group, path, archive) -> None:
    _read_attributes(group, path, archive)
    children = {name: child for name, child in group.items() if (path, name) != ("", "optimizer")}
    if not children and path:
        archive.groups.append(path)
    for name, child in children.items():
        below = f"{path}/{name}".lstrip("/")
        if isinstance(child, h5py.Group):
            _read_group(child, below, archive)
        else:
            archive.arrays[below] = _array(child, below)
            _read_attributes(child, below, archive)


def _array(dataset, path) -> np.ndarray:
    if dataset.dtype.kind not in "biufc":
        raise UnsupportedModelError(
            f"The model saves {path!r} as {dataset.dtype}, which cannot be packed: only numbers can. Let the "
            "layer save it with `save_assets`."
        )
    return dataset[()]


def _read_attributes(item, path, archive) -> None:
    if item.attrs:
        archive.attributes[path] = {name: _plain(value) for name, value in item.attrs.items()}


def _plain(value):
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value
