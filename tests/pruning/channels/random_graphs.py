"""Random models from the layers that channels can be cut through, and the yardstick for a cut."""

import keras
import numpy as np
from keras import layers, ops

from tfsqueeze.core.rewrite import rewrite


def image_model(steps, seed):
    """A classifier of 8x8 images made of the given steps, with random weights and statistics."""
    rng = np.random.default_rng(seed)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(image)
    for step in steps:
        x = IMAGE_STEPS[step](x, rng)
    x = layers.Flatten()(x) if rng.random() < 0.5 else layers.GlobalAveragePooling2D()(x)
    return random_weights(keras.Model(image, layers.Dense(3)(x)), rng)


def sequence_model(steps, seed):
    """A model of token sequences made of the given steps."""
    rng = np.random.default_rng(seed)
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8)(tokens)
    for step in steps:
        x = SEQUENCE_STEPS[step](x, rng)
    outputs = {"all": layers.Dense(2)(x), "last": layers.Dense(3, "softmax")(x[:, -1])}
    return random_weights(keras.Model(tokens, outputs), rng)


def random_weights(model, rng):
    """Sets all weights at random, statistics and scales to positive values, and returns the model."""
    for variable in model.variables:
        if "float" in variable.dtype:
            low = 0.5 if variable.name in ("moving_variance", "gamma") else -0.6
            variable.assign(rng.uniform(low, 0.9, variable.shape))
    return model


def keep_some(graph, seed):
    """A random cut that leaves each axis at least one channel."""
    rng = np.random.default_rng(seed)
    keep = {name: rng.random(group.size) < 0.6 for name, group in graph.groups.items()}
    for axis in graph.axes():
        units = graph.units(axis.labels)
        for name, group in graph.groups.items():
            own = units[(units >= group.start) & (units < group.start + group.size)] - group.start
            if len(own):
                keep[name][own[0]] = True
    return keep


def with_zeroed_consumers(model, graph, keep):
    """A copy of `model` whose kernels do not see the channels that a cut would remove."""
    twin = rewrite(model)
    variables = dict(zip(map(id, model.variables), twin.variables, strict=True))
    for group in graph.groups.values():
        for part in group.consumers:
            dead = np.isin(part.units, np.flatnonzero(~keep[group.name]))
            values = np.moveaxis(variables[id(part.variable)].numpy(), part.axis, 0).copy()
            values[dead] = 0
            variables[id(part.variable)].assign(np.moveaxis(values, 0, part.axis))
    return twin


def _filters(rng):
    return int(rng.integers(2, 5)) * 2


def _conv(x, rng):
    return layers.Conv2D(_filters(rng), int(rng.integers(1, 4)), padding="same")(x)


def _grouped(x, rng):
    x = layers.Conv2D(8, 1)(x)
    return layers.Conv2D(4, 3, groups=int(rng.choice([2, 4])), padding="same")(x)


def _one_channel_groups(x, rng):
    return layers.Conv2D(2 * x.shape[-1], 3, groups=x.shape[-1], padding="same")(x)


def _depthwise(x, rng):
    return layers.DepthwiseConv2D(3, depth_multiplier=int(rng.integers(1, 3)), padding="same")(x)


def _separable(x, rng):
    return layers.SeparableConv2D(_filters(rng), 3, depth_multiplier=2, padding="same", activation="relu")(x)


def _transposed(x, rng):
    return layers.Conv2DTranspose(_filters(rng), 3, padding="same")(x)


def _normalized(x, rng):
    return layers.ReLU()(layers.BatchNormalization()(x))


def _slopes(x, rng):
    return layers.PReLU(shared_axes=[1, 2] if rng.random() < 0.5 else None)(x)


def _residual(x, rng):
    merge = rng.choice([layers.Add, layers.Subtract, layers.Maximum, layers.Average])
    return merge()([x, layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")(x)])


def _concatenated(x, rng):
    return layers.Concatenate()([x, _conv(x, rng), layers.MaxPooling2D(2, 1, padding="same")(x)])


def _added_to_concatenated(x, rng):
    parts = layers.Concatenate()([layers.Conv2D(2, 1)(x), layers.Conv2D(4, 1)(x)])
    return ops.add(parts, layers.Conv2D(6, 3, padding="same")(x))


def _squeeze_excite(x, rng):
    channels = x.shape[-1]
    y = layers.Reshape((1, 1, channels))(layers.GlobalAveragePooling2D()(x))
    y = layers.Conv2D(channels, 1, activation="sigmoid")(layers.Conv2D(2, 1, activation="relu")(y))
    return layers.Multiply()([x, y])


def _gated(x, rng):
    first, second = ops.split(layers.Conv2D(8, 1)(x), 2, axis=-1)
    return first * ops.sigmoid(second)


def _sliced(x, rng):
    y = layers.Conv2D(7, 1)(x)
    return ops.concatenate([y[..., 3:], layers.Activation("gelu")(y[..., :4])], axis=-1)


def _shuffled(x, rng):
    y = layers.Conv2D(8, 1)(x)
    height, width = y.shape[1:3]
    y = ops.transpose(ops.reshape(y, (-1, height, width, 2, 4)), (0, 1, 2, 4, 3))
    return ops.reshape(y, (-1, height, width, 8))


def _channels_first(x, rng):
    y = layers.Permute((3, 1, 2))(x)
    return layers.Permute((2, 3, 1))(layers.Activation("tanh")(y))


def _resized(x, rng):
    return layers.Cropping2D(1)(
        layers.UpSampling2D(2)(layers.AveragePooling2D(2)(layers.ZeroPadding2D(1)(x)))
    )


def _nested(x, rng):
    inside = keras.Input(x.shape[1:])
    y = layers.Conv2D(x.shape[-1], 1, activation="relu")(inside)
    return keras.Model(inside, layers.Add()([inside, y]), name=f"nested_{rng.integers(10**9)}")(x)


def _shared(x, rng):
    twice = layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")
    return twice(twice(x))


IMAGE_STEPS = {
    step.__name__[1:]: step
    for step in (
        *(_conv, _grouped, _one_channel_groups, _depthwise, _separable, _transposed, _normalized, _slopes),
        *(_residual, _concatenated, _added_to_concatenated, _squeeze_excite, _gated, _sliced, _shuffled),
        *(_channels_first, _resized, _nested, _shared),
    )
}


def _dense(x, rng):
    return layers.Dense(_filters(rng), activation="gelu")(x)


def _causal(x, rng):
    return layers.Conv1D(_filters(rng), 3, padding="causal", dilation_rate=2)(x)


def _recurrent(x, rng):
    return rng.choice([layers.LSTM, layers.GRU, layers.SimpleRNN])(5, return_sequences=True)(x)


def _both_ways(x, rng):
    inner = layers.GRU(3, return_sequences=True, reset_after=bool(rng.random() < 0.5))
    return layers.Bidirectional(inner, merge_mode=str(rng.choice(["concat", "sum"])))(x)


def _each_step(x, rng):
    return layers.TimeDistributed(layers.Dense(5, activation="relu"))(x)


def _attention(x, rng):
    y = layers.MultiHeadAttention(3, 2, value_dim=4)(x, x)
    return layers.Add()([x, y])


def _grouped_queries(x, rng):
    return layers.Add()([x, layers.GroupQueryAttention(3, 4, 2)(x, x)])


def _einsum_heads(x, rng):
    y = layers.EinsumDense("abc,cde->abde", (None, 3, 4), bias_axes="de")(x)
    return layers.EinsumDense("abde,def->abf", (None, 6), bias_axes="f")(y)


def _written_attention(x, rng):
    query, key, value = (ops.reshape(layers.Dense(8)(x), (-1, 6, 4, 2)) for _ in range(3))
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", query, key) * 0.5)
    mixed = ops.matmul(scores, ops.transpose(value, (0, 2, 1, 3)))
    return layers.Dense(4)(ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, 6, 8)))


SEQUENCE_STEPS = {
    step.__name__[1:]: step
    for step in (
        *(_dense, _causal, _recurrent, _both_ways, _each_step),
        *(_attention, _grouped_queries, _einsum_heads, _written_attention),
    )
}
