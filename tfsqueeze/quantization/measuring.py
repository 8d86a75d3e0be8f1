"""Measuring activation ranges on data before the first step of training."""

import keras

from tfsqueeze.core.data import collect, input_specs, pack_inputs
from tfsqueeze.quantization.activation import ActivationQuantizer

EXAMPLES = 512
BATCH_SIZE = 32


def measure_ranges(model: keras.Model, data, *, examples: int = EXAMPLES) -> None:
    """Sets the activation ranges of a quantization-aware model from data, in inference mode.

    The weights and statistics of the model stay as they are. The first pass takes the ranges over, each
    batch having the same say in a moving average.

    Args:
        model: as `quantize_aware` returns it; changed in place.
        data: typical inputs, in any form `model.fit` takes.
        examples: most examples to read.
    """
    quantizers = activation_quantizers(model)
    batches = list(collect(data, input_specs(model), limit=examples).batches(BATCH_SIZE))
    for quantizer in quantizers:
        quantizer.reset()
        quantizer.is_rounding = False
    for index, batch in enumerate(batches):
        for quantizer in quantizers:
            quantizer.begin_measuring(share=1.0 / (index + 1))
        model(pack_inputs(model, batch.inputs), training=False)
    for quantizer in quantizers:
        quantizer.end_measuring()
        quantizer.is_rounding = True


def activation_quantizers(model: keras.Model) -> list[ActivationQuantizer]:
    """Every activation quantizer of a model, those inside wrapped layers too."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, ActivationQuantizer)]
