"""Recognising the work a file belongs to."""

import keras
import numpy as np
import pytest
from keras import layers

from tfsqueeze.core.resuming import arrays_digest, check_same_work, setting_text, weights_digest


def test_digests_tell_values_shapes_and_names_apart():
    array = np.arange(6.0)
    assert arrays_digest({"a": array}) == arrays_digest({"a": array.copy()})
    others = [{"b": array}, {"a": array + 1}, {"a": array.reshape(2, 3)}, {"a": array.astype("float32")}]
    assert len({arrays_digest(one) for one in [{"a": array}, *others]}) == 5
    assert arrays_digest([np.array(["x", "y"], object)]) != arrays_digest([np.array(["x", "z"], object)])
    assert arrays_digest([array, None]) == arrays_digest([array, None])


def test_models_of_equal_weights_have_equal_digests():
    first = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    second = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    assert weights_digest(first) != weights_digest(second)
    second.set_weights(first.get_weights())
    assert weights_digest(first) == weights_digest(second)


def test_settings_as_text():
    assert setting_text("magnitude") == "'magnitude'"
    assert setting_text(test_settings_as_text) == "test_settings_as_text"


def test_other_work_is_refused_by_the_names_that_differ():
    check_same_work("scores.json", {"a": "1", "b": "2"}, {"a": "1", "b": "2"})
    with pytest.raises(ValueError, match=r"'scores\.json' holds .* \(b: 2 there, 3 now\)"):
        check_same_work("scores.json", {"a": "1", "b": "2"}, {"a": "1", "b": "3"})
