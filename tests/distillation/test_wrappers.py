"""What is asked of a distiller is asked of its student, or refused in words that name it."""

import keras
import numpy as np
import pytest

import tfsqueeze as tfs
import tfsqueeze.distillation as kd
from tests.distillation.networks import convnet, images
from tfsqueeze.core.checks import UnsupportedModelError

X, Y = images(32)


@pytest.fixture(scope="module")
def distiller():
    made = tfs.Distiller(tfs.prune(convnet(4, name="small"), 0.5), convnet(6, name="large"))
    made.compile("adam", "sparse_categorical_crossentropy")
    return made


def test_the_student_is_exported_reported_and_explained(distiller, tmp_path):
    result = tfs.export_tflite(distiller, tmp_path / "student.tflite")
    report = tfs.report(distiller)
    assert report.parameters == distiller.student.count_params()
    assert report.macs == tfs.report(result.path).macs == tfs.report(distiller.student).macs
    assert tfs.explain(distiller).verb == "prune"
    own = kd.SelfDistillation(convnet(4, name="own"), exits=["conv1"])
    assert tfs.report(own).parameters == own.student.count_params()


def test_a_saved_distiller_exports_its_student(distiller, tmp_path):
    distiller.save(tmp_path / "distiller.keras")
    result = tfs.export_tflite(tmp_path / "distiller.keras", tmp_path / "student.tflite")
    assert list(result.outputs) == ["head"]
    with pytest.raises(UnsupportedModelError, match=r"report\(\) works on a network of its own.*`.student`"):
        tfs.report(tmp_path / "distiller.keras")


@pytest.mark.parametrize(
    "verb",
    [
        lambda model: tfs.prune(model, 0.5),
        lambda model: tfs.prune_channels(model, ratio=0.5),
        lambda model: tfs.quantize_aware(model),
        lambda model: tfs.calibrate(model, X),
        lambda model: tfs.cluster(model, 4),
        lambda model: tfs.to_separable(model),
        lambda model: tfs.factorize(model, energy=0.9),
        lambda model: tfs.Distiller(convnet(3), model),
    ],
)
def test_what_returns_a_model_asks_for_the_student(verb, distiller):
    with pytest.raises(UnsupportedModelError, match=r"trains 'small'. Pass `.student` of it"):
        verb(distiller)


def test_a_cohort_asks_which_student(tmp_path):
    cohort = kd.MutualLearning([convnet(3, name="a"), convnet(4, name="b")])
    with pytest.raises(UnsupportedModelError, match=r"'b'. Pass `.students\[0\]` or `.students\[1\]`"):
        tfs.export_tflite(cohort, tmp_path / "m.tflite")


def test_the_batch_of_a_distiller_is_that_of_its_training(distiller):
    assert tfs.largest_batch(distiller, (X, Y), limit=2) == 2


def test_copies_of_distillers_are_whole(distiller):
    from tfsqueeze.core.rewrite import rewrite

    twin = rewrite(distiller)
    np.testing.assert_array_equal(np.asarray(twin(X)), np.asarray(distiller(X)))
    assert isinstance(twin.teacher, keras.Model)
