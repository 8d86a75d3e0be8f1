"""The small networks by which a model can end early."""

from collections.abc import Callable, Sequence

import keras
from keras import layers

from tfsqueeze.distillation.output_pairs import Output

Bottleneck = Callable[[tuple], keras.Layer]
POOLING = {
    3: layers.GlobalAveragePooling1D,
    4: layers.GlobalAveragePooling2D,
    5: layers.GlobalAveragePooling3D,
}


def plain_bottleneck(shape: tuple, width: int, is_pooled: bool, name: str) -> keras.Sequential:
    """What makes features of some depth fit for a classifier.

    Images get a separable 3x3 convolution with normalisation, anything else a dense layer on its channels.

    Args:
        shape: of the features, batch axis first, None where free.
        width: channels to make.
        is_pooled: whether positions are averaged at the end.
        name: of the network.
    """
    if len(shape) == 4:
        chain = [
            layers.SeparableConv2D(width, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
        ]
        chain.append(layers.ReLU())
    else:
        chain = [layers.Dense(width, activation="relu")]
    if is_pooled and len(shape) in POOLING:
        chain.append(POOLING[len(shape)](data_format="channels_last"))
    return keras.Sequential(chain, name=name)


def classifier(features: tuple, output: Output, place: str) -> keras.Layer:
    """A layer that makes an output of the model from the features of a bottleneck.

    Args:
        features: their shape, batch axis first, None where free.
        output: the model's output to be made.
        place: where the exit is, for the message.

    Raises:
        ValueError: if positions do not fit and are not those of images.
    """
    units, activation = output.shape[-1], output.activation
    positions, wanted = tuple(features[1:-1]), tuple(output.shape[1:-1])
    if len(positions) == len(wanted) and _agree(positions, wanted):
        return layers.Dense(units, activation=activation, dtype="float32", name=output.name)
    if len(positions) == len(wanted) == 2 and None not in wanted:
        chain = [layers.Dense(units, dtype="float32"), layers.Resizing(*wanted, dtype="float32")]
        chain.append(layers.Activation(activation, dtype="float32"))
        return keras.Sequential(chain, name=output.name)
    raise ValueError(
        f"An exit at {place!r} has features of shape {tuple(features)}, which do not fit the output "
        f"{output.name!r} of shape {output.shape}. Give `bottleneck`, a function of their shape that returns "
        "a layer which brings them to the output's positions; or choose another layer."
    )


def built(layer: keras.Layer, shape: Sequence) -> keras.Layer:
    """The layer with weights for inputs of a shape."""
    if not layer.built:
        layer.build(tuple(shape))
    return layer


def _agree(positions, wanted) -> bool:
    return all(None in sizes or sizes[0] == sizes[1] for sizes in zip(positions, wanted, strict=True))
