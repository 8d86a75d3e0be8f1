import keras
import numpy as np
import pytest

from tests.distillation.networks import convnet, images
from tfsqueeze.distillation import Features, teach_in_turn


def test_each_student_teaches_the_next():
    x, y = images(16)
    teacher, last = convnet(8), convnet(2)
    seen = []

    def train(distiller, index):
        seen.append((distiller.teacher, distiller.student, index))
        distiller.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", run_eagerly=True)
        distiller.fit(x, y, verbose=0)

    before = [variable.numpy() for variable in last.trainable_weights]
    student = teach_in_turn(teacher, [0.5, last], train, losses=Features("conv2"), alpha=0.5)
    assert student is last
    assert [index for *_, index in seen] == [0, 1]
    assert seen[0][0] is teacher
    assert seen[0][1].get_layer("conv1").filters == 4
    assert seen[1][0] is seen[0][1]
    assert any((a != v.numpy()).any() for a, v in zip(before, last.trainable_weights, strict=True))
    assert np.isfinite(last.predict(x, verbose=0)).all()


def test_bad_chains_are_refused():
    with pytest.raises(ValueError, match="at least one model or width"):
        teach_in_turn(convnet(), [], print)
    with pytest.raises(TypeError, match="`train` must be a function"):
        teach_in_turn(convnet(), [0.5], None)
    with pytest.raises(TypeError, match=r"expects a `keras.Model`"):
        teach_in_turn(convnet(), ["half"], print)
