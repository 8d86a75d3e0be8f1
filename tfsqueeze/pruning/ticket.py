"""What a search for a lottery ticket found."""

from dataclasses import dataclass

import keras
import numpy as np

from tfsqueeze.core.layer_info import kernels
from tfsqueeze.core.new_weights import with_new_weights
from tfsqueeze.core.select import walk


@dataclass(frozen=True, repr=False, eq=False)
class Ticket:
    """A sparse subnetwork with the weights it began with. Print it for its history.

    Attributes:
        model: the ticket: rewound and masked, not yet trained. Train it with `tfs.PruningCallback()`
            (with the same `pattern` and `select`), which keeps its zeros.
        trained: the ticket after its training.
        masks: one boolean array per pruned kernel by path ("conv1/kernel"), True where a weight lives.
        history: one row per training, the dense one first: "round", "sparsity" (fraction of zeros in the
            pruned kernels) and "metrics" (what `train` returned).
        initial: the model the search began with.
        skipped: why layers with weights were not pruned, by path.
    """

    model: keras.Model
    trained: keras.Model
    masks: dict[str, np.ndarray]
    history: list[dict]
    initial: keras.Model
    skipped: dict[str, str]

    @property
    def sparsity(self) -> float:
        """Fraction of zeros in the pruned kernels."""
        return 1 - sum(int(mask.sum()) for mask in self.masks.values()) / sum(
            mask.size for mask in self.masks.values()
        )

    def control(self, seed: int) -> keras.Model:
        """A model with the same masks and new initial weights: what a ticket must beat to be one.

        Args:
            seed: of the new weights. Frozen layers and statistics are those of `initial`.

        Returns:
            An untrained model, compiled as `model` is. Train it as the ticket.
        """
        with self.initial.distribute_strategy.scope():
            twin = with_new_weights(self.initial, seed)
        put_on(twin, [variable.numpy() for variable in twin.weights], self.masks)
        return twin

    def __str__(self) -> str:
        rows = [
            f"  {row['round']:>5}  {row['sparsity']:>8.2%}  "
            + ", ".join(f"{name} {value:.4g}" for name, value in row["metrics"].items())
            for row in self.history
        ]
        count = f"{len(self.masks)} kernel{'s' * (len(self.masks) != 1)}"
        title = f"Ticket of {self.initial.name!r}: {self.sparsity:.2%} zeros in {count}"
        return "\n".join([title, "  round  sparsity  after training", *rows])

    __repr__ = __str__


def put_on(model: keras.Model, values: list[np.ndarray], masks: dict[str, np.ndarray]) -> None:
    """Gives `model` the values of all its weights, and zeros where the masks, by kernel path, are False."""
    for variable, value in zip(model.weights, values, strict=True):
        variable.assign(value)
    found = {
        f"{named.path}/{kernel.attribute}": variable
        for named in walk(model)
        for kernel, variable in kernels(named.layer)
    }
    for path, mask in masks.items():
        values = found[path].numpy()
        # A living weight that begins at exactly 0 would be taken for a pruned one.
        living = np.where(values == 0, _smallest(values.dtype), values)
        found[path].assign(np.where(mask, living, 0))


def _smallest(dtype) -> float:
    """The smallest normal number; bfloat16, which NumPy does not know, has that of float32."""
    return float(np.finfo(dtype if dtype.kind == "f" else "float32").tiny)
