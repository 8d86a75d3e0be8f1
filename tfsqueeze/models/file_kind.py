"""What a path holds, told by its content and not by its name."""

import difflib
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import h5py
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_LEGACY_METADATA = b"_tf_keras_"

_OTHER_FORMATS = {
    ".onnx": "an ONNX model. Convert it to Keras with onnx2tf or export it from its source again",
    ".pt": "a PyTorch file. Export the network from PyTorch with litert-torch, or rebuild it in Keras",
    ".pth": "a PyTorch file. Export the network from PyTorch with litert-torch, or rebuild it in Keras",
    ".safetensors": "a safetensors file, which holds only weights. Build the model and set them on it",
    ".pkl": "a pickle, which may run any code when opened. Save the model with `model.save('model.keras')`",
    ".npz": "a NumPy archive. Build the model and set its weights with `model.set_weights`",
    ".pb": "a frozen TensorFlow graph, without any layers in it. Pass the folder of a SavedModel instead",
    ".json": "a JSON file. Build the model with `keras.models.model_from_json`, pass the weights file with "
    "`architecture=model`",
    ".mlmodel": "a Core ML model. Convert from the Keras model it was made from",
}


@dataclass(frozen=True)
class FileKind:
    """What kind of model a path holds.

    Attributes:
        name: "keras", "h5", "h5_weights", "saved_model", "graph" (a SavedModel without Keras in it) or
            "checkpoint".
        path: the file or folder; for a checkpoint its prefix.
        config: the saved Keras configuration, for searching; empty if there is none.
        keras_version: version that saved it, such as "2.15.0"; empty if unknown.
    """

    name: str
    path: Path
    config: bytes = b""
    keras_version: str = ""


def file_kind(path: str | os.PathLike) -> FileKind:
    """Finds out what a path holds.

    Args:
        path: a file, a folder, or the prefix of a TensorFlow checkpoint. "~" means the home folder.

    Raises:
        ValueError: if there is nothing there, or it holds no Keras model; the message says what it is
            and what to do.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _folder_kind(path)
    if not path.exists():
        if Path(f"{path}.index").exists():
            return FileKind("checkpoint", path)
        raise ValueError(f"There is no file or folder {str(path)!r}. {_similar_names(path)}")
    with open(path, "rb") as file:
        head = file.read(64)
    if not head:
        raise ValueError(
            f"The file {str(path)!r} is empty (0 bytes): it was not written to the end. Save it again."
        )
    if head[:2] == b"PK":
        return _zip_kind(path)
    if head.startswith(_HDF5_MAGIC):
        return _hdf5_kind(path)
    return _other_kind(path, head)


def damaged(path: Path, kind: str, reason) -> ValueError:
    """The error for a file that is of a known kind but cannot be read to its end."""
    return ValueError(
        f"The {kind} {str(path)!r} ({path.stat().st_size} bytes) is damaged or cut short, and cannot be "
        f"read: {reason}. Copy it again or save the model again."
    )


def brief(error: Exception) -> str:
    """The message of an error on one line and without the arrays that Keras puts in it."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."


def _folder_kind(path: Path) -> FileKind:
    names = {item.name for item in path.iterdir()}
    if "saved_model.pb" in names:
        return _saved_model_kind(path)
    if "saved_model.pbtxt" in names:
        raise ValueError(f"{str(path)!r} is a SavedModel in text form. Save it again as saved_model.pb.")
    if {"config.json", "model.weights.h5"} <= names:
        return FileKind("keras", path, (path / "config.json").read_bytes())
    checkpoints = sorted(name.removesuffix(".index") for name in names if name.endswith(".index"))
    models = sorted(name for name in names if name.endswith((".keras", ".h5", ".hdf5", ".tflite")))
    if checkpoints and not models:
        return FileKind("checkpoint", path / checkpoints[-1])
    found = f"It contains {_listed(models)} Pass one of these." if models else f"Found: {_listed(names)}"
    raise ValueError(f"The folder {str(path)!r} is no model: it has no saved_model.pb. {found}")


def _listed(names) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:5])
    return (shown or "nothing in it") + (", ..." if len(names) > 5 else "") + "."


def _saved_model_kind(path: Path) -> FileKind:
    graph, metadata = path / "saved_model.pb", path / "keras_metadata.pb"
    content = graph.read_bytes()
    try:
        if not SavedModel.FromString(content).meta_graphs:
            raise DecodeError("no graph in it")
    except DecodeError as error:
        raise damaged(graph, "SavedModel file", error) from error
    config = metadata.read_bytes() if metadata.exists() else b""
    if not config and _LEGACY_METADATA in content:
        config = content
    if config and not (path / "variables" / "variables.index").exists():
        raise ValueError(
            f"The SavedModel {str(path)!r} lacks variables/variables.index: it was not copied as a whole. "
            "Copy the folder again with everything in it."
        )
    return FileKind("saved_model" if config else "graph", path, config)


def _zip_kind(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "config.json" not in names:
                return _other_zip(path, names)
            metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in names else {}
            return FileKind("keras", path, archive.read("config.json"), metadata.get("keras_version", ""))
    except (zipfile.BadZipFile, OSError, EOFError, json.JSONDecodeError, KeyError) as error:
        raise damaged(path, ".keras file", error) from error


def _other_zip(path, names):
    if any(name.endswith("data.pkl") for name in names):
        raise ValueError(f"{str(path)!r} is {_OTHER_FORMATS['.pt']}.")
    if any(name.endswith("saved_model.pb") for name in names):
        raise ValueError(f"{str(path)!r} is a zipped SavedModel. Unzip it and pass the folder.")
    if all(name.endswith(".npy") for name in names):
        raise ValueError(f"{str(path)!r} is {_OTHER_FORMATS['.npz']}.")
    raise ValueError(
        f"The zip file {str(path)!r} is no Keras model: it has no config.json. Found: {_listed(names)}"
    )


def _hdf5_kind(path: Path) -> FileKind:
    try:
        with h5py.File(path, "r") as file:
            config, version = file.attrs.get("model_config"), file.attrs.get("keras_version", "")
            if config is None:
                return FileKind("h5_weights", path)
    except Exception as error:
        raise damaged(path, "HDF5 file", error) from error
    config = config.encode() if isinstance(config, str) else bytes(config)
    return FileKind("h5", path, config, version.decode() if isinstance(version, bytes) else str(version))


def _other_kind(path: Path, head: bytes) -> FileKind:
    if head[4:8] == b"TFL3":
        raise ValueError(
            f"{str(path)!r} is a TFLite file: it cannot be turned back into a Keras model. `tfs.report(...)` "
            "reads such files; for anything else load the model it was made from."
        )
    if path.suffix == ".index" or ".data-00000-of-" in path.name:
        return FileKind("checkpoint", Path(str(path).split(".data-")[0].removesuffix(".index")))
    if path.name == "saved_model.pb":
        raise ValueError(
            f"{str(path)!r} is one part of a SavedModel. Pass its folder: {str(path.absolute().parent)!r}."
        )
    if head.startswith(b"\x80") and path.suffix not in _OTHER_FORMATS:
        raise ValueError(f"{str(path)!r} is {_OTHER_FORMATS['.pkl']}.")
    if path.suffix in _OTHER_FORMATS:
        raise ValueError(f"{str(path)!r} is {_OTHER_FORMATS[path.suffix]}.")
    if path.suffix in (".keras", ".h5", ".hdf5", ".tflite"):
        raise damaged(
            path, f"{path.suffix} file", f"it does not start as such a file does, but with {head[:8]!r}"
        )
    raise ValueError(
        f"{str(path)!r} is no model that tfsqueeze knows (it starts with {head[:8]!r}). Expected a .keras or "
        ".h5 file or a SavedModel folder."
    )


def _similar_names(path: Path) -> str:
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"Neither is there a folder {str(folder)!r}."
    names = [item.name for item in folder.iterdir()]
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    close += [name for name in names if Path(name).stem == path.stem and name not in close]
    if close:
        return f"Did you mean {' or '.join(repr(name) for name in close[:3])}?"
    return f"The folder holds {_listed(names)}"
