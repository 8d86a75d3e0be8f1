"""Ways to teach a small network for spoken digits."""

import keras

import tfsqueeze as tfs
from tests.benchmarks import speech
from tests.benchmarks.taught import ALPHA, TEMPERATURE, accuracy, fitted
from tfsqueeze import distillation as kd

SPEECH_EPOCHS = 30


def by_labels(teacher, train, fit):
    """Without any teacher."""
    net = tfs.scale_width(teacher, 0.25, inherit=False)
    fit(net)
    return net


def by_teacher(teacher, train, fit):
    """The quarter-width student taught by the whole net."""
    net = tfs.scale_width(teacher, 0.25, inherit=False)
    fit(tfs.Distiller(net, teacher, alpha=ALPHA, temperature=TEMPERATURE))
    return net


def by_assistant(teacher, train, fit):
    """The same, by way of a net of half the width."""
    nets = [tfs.scale_width(teacher, width, inherit=False) for width in (0.5, 0.25)]
    options = {"alpha": ALPHA, "temperature": TEMPERATURE}
    return kd.teach_in_turn(teacher, nets, lambda distiller, index: fit(distiller), **options)


def by_each_other(teacher, train, fit):
    """The first of two that learn together."""
    cohort = kd.MutualLearning([tfs.scale_width(teacher, 0.25, inherit=False) for _ in range(2)])
    fit(cohort)
    return cohort.students[0]


def by_itself(teacher, train, fit):
    """The whole of a net with two exits."""
    taught = kd.SelfDistillation(tfs.scale_width(teacher, 0.25, inherit=False), exits=2)
    fit(taught)
    return taught.student


WAYS = {
    "labels alone": by_labels,
    "teacher": by_teacher,
    "assistant": by_assistant,
    "each other": by_each_other,
    "own exits": by_itself,
}


def spoken(data, teacher, seed, limit, side) -> tuple[float]:
    """Accuracy of a quarter-width net for spoken digits."""
    train, test = data
    keras.utils.set_random_seed(seed)

    def fit(model):
        batches = speech.batches(*train, seed)
        fitted(model, batches, SPEECH_EPOCHS, limit, loss="sparse_categorical_crossentropy")

    return (accuracy(WAYS[side](teacher, train, fit), test),)
