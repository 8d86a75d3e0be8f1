"""The last touch to a converted file: the user's names, short tensor names, a checksum."""

from collections.abc import Mapping

from tfsqueeze.tflite import flatbuffer
from tfsqueeze.tflite.checksum import sign


def finish(content: bytes, input_keys: Mapping[str, str], output_keys: Mapping[str, str]) -> bytes:
    """Gives inputs and outputs the names the user knows, drops what only costs bytes, adds a checksum.

    The converter joins the names of all operations it fused into one tensor name, which in a small
    file is several percent of its size; the first of them says as much.

    Args:
        content: a `.tflite` file.
        input_keys, output_keys: key in the file's signature by the user's name.
    """
    model = flatbuffer.unpack(content)
    if flatbuffer.has_external_buffers(model):
        return content
    names = {key: name for name, key in input_keys.items()}, {key: name for name, key in output_keys.items()}
    for subgraph in model.subgraphs:
        _shorten(subgraph.tensors)
    for signature in model.signatureDefs or []:
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        for entries, renamed in zip((signature.inputs, signature.outputs), names, strict=True):
            for entry in entries or []:
                key = flatbuffer.text(entry.name)
                entry.name = renamed.get(key, key)
                tensors[entry.tensorIndex].name = entry.name
    return sign(model)


def _shorten(tensors) -> None:
    taken: set[str] = set()
    for tensor in tensors or []:
        full = flatbuffer.text(tensor.name)
        short = full.split(";", 1)[0]
        tensor.name = full if short in taken else short
        taken.add(tensor.name)
