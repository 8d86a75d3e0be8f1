"""Students of half the width, and what teaches them: shared by the parts of the distillation benchmark."""

import keras
from keras import layers

import tfsqueeze as tfs
from tests.benchmarks import cifar10
from tfsqueeze import distillation as kd

STUDENT_EPOCHS = 12
TEMPERATURE = 4.0
ALPHA = 0.9
BLOCK = 20
KERAS_LOGITS = {"temperature": TEMPERATURE, "loss": keras.losses.KLDivergence()}
FROM_LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def resnet8(width: int = 16, name: str = "resnet8"):
    """The network of MLPerf Tiny's image classification, for images of 0..255, with logits."""
    image = keras.Input((32, 32, 3))
    x = block_part(layers.Rescaling(1 / 255)(image), width, 3)
    for index, factor in enumerate((1, 2, 4)):
        stride = 1 if index == 0 else 2
        y = block_part(x, width * factor, 3, stride)
        y = layers.BatchNormalization()(layers.Conv2D(width * factor, 3, padding="same")(y))
        if stride > 1:
            x = layers.Conv2D(width * factor, 1, strides=stride)(x)
        x = layers.ReLU(name=f"block{index}")(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name=name)


def block_part(x, width, size, stride=1):
    """Convolution, normalisation, activation."""
    x = layers.Conv2D(width, size, strides=stride, padding="same")(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def keras_distiller(student, teacher, with_features: bool = False):
    """Keras' own with the same losses; it has no adapters, so a layer of equal width is compared."""
    losses = [keras.distillation.LogitsDistillation(**KERAS_LOGITS)]
    if with_features:
        losses.append(keras.distillation.FeatureDistillation("mse", "logits", "logits"))
    return keras.distillation.Distiller(teacher, student, losses, student_loss_weight=1 - ALPHA)


def our_distiller(student, teacher, with_features: bool = False):
    """Ours with the same losses."""
    losses = [kd.SoftTargets()]
    if with_features:
        losses.append(kd.Features("logits"))
    return tfs.Distiller(student, teacher, losses, alpha=ALPHA, temperature=TEMPERATURE)


def alone(student, teacher, with_features: bool = False):
    """The student without a teacher."""
    return student


SIDES = {"alone": alone, "keras": keras_distiller, "tfsqueeze": our_distiller}
INHERITED = "inherited weights, "
STUDENTS = (*SIDES, *(INHERITED + side for side in SIDES))


def fitted(model, data, epochs: int, limit, *callbacks, rate=2e-3, loss=FROM_LOGITS):
    """Trains with a cosine learning rate, without XLA (slower on one thread); `limit` cuts the epochs."""
    data = data if limit is None else data.take(limit)
    steps = int(data.cardinality()) * epochs
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(keras.optimizers.Adam(schedule), loss, jit_compile=False)
    model.fit(data, epochs=epochs, verbose=0, callbacks=list(callbacks))


def accuracy(model, test) -> float:
    """Top-1 of a model's predictions."""
    return float((model.predict(test[0], verbose=0, batch_size=500).argmax(1) == test[1]).mean())


def with_logits(teacher):
    """The teacher without its softmax, which Keras' loss needs."""
    head = teacher.layers[-1]
    logits = layers.Dense(head.units, name="logits")
    model = keras.Model(teacher.input, logits(head.input))
    logits.set_weights(head.get_weights())
    return model


def student(data, teacher, seed, limit, side) -> tuple[float]:
    """Accuracy of the half-width student on CIFAR-10, with new weights or the teacher's first channels."""
    train, test = data
    keras.utils.set_random_seed(seed)
    teacher = with_logits(teacher)
    net = tfs.scale_width(teacher, 0.5) if side.startswith(INHERITED) else resnet8(8)
    make = SIDES[side.removeprefix(INHERITED)]
    fitted(make(net, teacher), cifar10.batches(*train, seed), STUDENT_EPOCHS, limit)
    return (accuracy(net, test),)
