"""`backbones`: what the networks of `keras.applications` cost."""

import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tfsqueeze.architecture.backbone_families import constructors, find_constructor
from tfsqueeze.core.trace import model_macs
from tfsqueeze.export.tflite import export_tflite
from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.tables import Table
from tfsqueeze.search.latencies import file_latencies


@dataclass(frozen=True)
class BackboneFacts:
    """One backbone without its top.

    Attributes:
        name: as `tfs.swap_backbone` takes it.
        parameters: number of weights.
        macs: multiply-accumulate operations for one image.
        features: shape of the last feature map: height, width, channels.
        latency_ms: median time of the float32 `.tflite` file on one thread, or None.
    """

    name: str
    parameters: int
    macs: int
    features: tuple[int, ...]
    latency_ms: float | None = None


@dataclass(frozen=True, repr=False)
class Backbones(Presentation):
    """Backbones, the one with the fewest MACs first. Print it for a table."""

    rows: list[BackboneFacts]
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {"size": self.size, "backbones": [asdict(row) for row in self.rows]}

    def tables(self):
        """One row per backbone."""
        cells = [
            [
                row.name,
                f"{row.parameters:,}",
                f"{row.macs / 1e6:,.0f} M",
                "x".join(map(str, row.features)),
                "-" if row.latency_ms is None else f"{row.latency_ms:.1f}",
            ]
            for row in self.rows
        ]
        columns = ["backbone", "parameters", "MACs", "features", "latency ms"]
        note = (
            f"Without top, for images of {self.size}x{self.size}. Latency: float32 .tflite file, one thread."
        )
        return [Table("Backbones", columns, cells, [note])]


def backbones(
    names: str | Iterable[str] | None = None,
    *,
    size: int = 224,
    latency: bool = False,
    runs: int = 20,
    **settings: Any,
) -> Backbones:
    """Measures networks of `keras.applications` as backbones: parameters, MACs and, if asked for, latency.

    Nothing is downloaded: the networks are built with new weights, which cost the same.

    Args:
        names: of networks, however written; None for all, which takes some minutes.
        size: height and width of the images.
        latency: whether to export each network and time it (some ten seconds each).
        runs: timed calls; all networks are timed in alternation.
        **settings: for all constructors, such as `alpha=0.35` where only MobileNets are named.

    Returns:
        A `Backbones`. Print it for a table.

    Raises:
        ValueError: if a name is unknown (all are listed), or a network does not take images of that size.

    Example:
        >>> print(tfs.backbones(["MobileNetV2", "EfficientNetB0"], size=160, latency=True))
    """
    listed = list(constructors()) if names is None else [names] if isinstance(names, str) else list(names)
    wanted = [find_constructor(name) for name in listed]
    rows, paths = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            model = constructors()[name](
                include_top=False, weights=None, input_shape=(size, size, 3), **settings
            )
            features = tuple(model.outputs[0].shape[1:])
            rows.append(BackboneFacts(name, model.count_params(), model_macs(model), features))
            if latency:
                paths[name] = export_tflite(model, Path(folder, f"{name}.tflite")).path
        timed = file_latencies(paths, runs)
    facts = [replace(row, latency_ms=timed.get(row.name)) for row in rows]
    return Backbones(sorted(facts, key=lambda row: row.macs), size)
