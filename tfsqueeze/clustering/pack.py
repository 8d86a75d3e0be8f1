"""A lossless compact file of a model whose weights share values, are zero, or both."""

import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import keras

from tfsqueeze.clustering import packed_file, plain_values
from tfsqueeze.clustering.keras_archive import KerasArchive, read_archive, write_archive
from tfsqueeze.clustering.packed_arrays import pack_arrays, unpack_arrays
from tfsqueeze.core.checks import check_model
from tfsqueeze.core.files import atomic_write, check_writable


@dataclass(frozen=True)
class PackedModel:
    """What `pack` wrote.

    Attributes:
        path: the file.
        bytes: its size.
        weight_bytes: those of them that hold the weights; the others hold the architecture.
        limit_bytes: the Shannon limit for the weights: the codes at their entropy, the values they stand
            for and weights that are not shared as they are.
        float32_bytes: four bytes per weight.
    """

    path: Path
    bytes: int
    weight_bytes: int
    limit_bytes: int
    float32_bytes: int

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than its weights in float32."""
        return self.float32_bytes / self.bytes

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.bytes:,} bytes, {self.ratio:.1f}x smaller than float32 "
            f"({self.float32_bytes:,}). Weights {self.weight_bytes:,} bytes, Shannon limit "
            f"{self.limit_bytes:,}; architecture {self.bytes - self.weight_bytes:,}."
        )


def pack(model: keras.Model, path) -> PackedModel:
    """Writes a model as one compact file, from which `tfs.unpack` makes it again exactly.

    Which weights share values (`tfs.cluster`, `tfs.product_quantize`) or are zero (`tfs.prune`) is found in
    the weights themselves; it is stored at the Shannon limit of these codes (range asymmetric numeral
    systems), other weights by general compression. All that Keras saves is kept but the state of the
    optimizer. The file can hold no program, unless the model has `Lambda` layers, and carries a checksum.

    Args:
        model: any built model that `model.save` can save.
        path: the file to write, for example "model.tfsq"; replaced only by a complete one.

    Returns:
        The sizes, with the limit beside them.

    Raises:
        TypeError, UnsupportedModelError: if it is no built model, or saves what is no number.

    Example:
        >>> print(tfs.pack(tfs.cluster(tfs.prune(model, 0.9), 16), "model.tfsq"))
        >>> model = tfs.unpack("model.tfsq")

    Source: Han et al., Deep Compression, arXiv:1510.00149; Duda, arXiv:1311.2540.
    """
    check_model(model, "pack()")
    check_writable(path)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model.keras"
        model.save(saved)
        archive = read_archive(saved)
    packed = pack_arrays(list(archive.arrays.values()))
    sections = [_header(archive, packed.facts), *packed.sections]
    content = packed_file.join(sections)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return PackedModel(
        path=Path(path),
        bytes=len(content),
        weight_bytes=sum(map(len, packed.sections)),
        limit_bytes=round(packed.limit_bytes),
        float32_bytes=4 * sum(array.size for array in archive.arrays.values()),
    )


def unpack(path, *, custom_objects: dict | None = None, safe_mode: bool = True) -> keras.Model:
    """Makes a model again from a file that `tfs.pack` wrote, with exactly the same weights.

    Args:
        path: the file.
        custom_objects: classes of yours that are not registered with Keras, by name.
        safe_mode: refuse `Lambda` layers, whose programs a file could bring in; see
            `keras.models.load_model`.

    Returns:
        The model, compiled as it was; the optimizer starts afresh.

    Raises:
        ValueError: if the file is missing, was not written by `tfs.pack`, or is damaged or cut off.

    Example:
        >>> model = tfs.unpack("model.tfsq")
    """
    archive = _archive(packed_file.read(path), path)
    with tempfile.TemporaryDirectory() as folder:
        restored = Path(folder) / "model.keras"
        write_archive(archive, restored)
        with warnings.catch_warnings():
            # Its state is not in the file, on purpose.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            return keras.models.load_model(restored, custom_objects=custom_objects, safe_mode=safe_mode)


def _header(archive: KerasArchive, facts: list) -> bytes:
    """Names, places and configuration, in one piece so that what repeats costs nothing."""
    described = {
        "members": [[name, len(content)] for name, content in archive.members.items()],
        "attributes": archive.attributes,
        "groups": archive.groups,
        "arrays": list(zip(archive.arrays, facts, strict=True)),
    }
    text = json.dumps(described, separators=(",", ":")).encode()
    return plain_values.compress(len(text).to_bytes(4, "little") + text + b"".join(archive.members.values()))


def _archive(sections: list[bytes], path) -> KerasArchive:
    try:
        header = plain_values.decompress(sections[0])
        end = 4 + int.from_bytes(header[:4], "little")
        described = json.loads(header[4:end])
        members = {}
        for name, size in described["members"]:
            members[name], end = header[end : end + size], end + size
        names, facts = zip(*described["arrays"], strict=True) if described["arrays"] else ((), ())
        arrays = dict(zip(names, unpack_arrays(list(facts), sections[1:]), strict=True))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be unpacked: its parts do not fit together ({error})."
        ) from error
    return KerasArchive(members, described["attributes"], described["groups"], arrays)
