"""Peak memory on schedules small enough to count by hand."""

import keras
from keras import layers

from tfsqueeze.reporting.graph_memory import graph_activation_bytes
from tfsqueeze.reporting.memory import Step, peak_bytes

SIZES = {"x": 10, "a": 20, "b": 5, "y": 1}


def test_chain_frees_what_is_read_for_the_last_time():
    steps = [Step(("x",), ("a",)), Step(("a",), ("b",)), Step(("b",), ("y",))]
    assert peak_bytes(steps, SIZES, ["x"], ["y"]) == 30


def test_residual_keeps_its_shortcut_alive():
    steps = [Step(("x",), ("a",)), Step(("a",), ("b",)), Step(("b", "x"), ("y",))]
    assert peak_bytes(steps, SIZES, ["x"], ["y"]) == 35


def test_outputs_live_to_the_end():
    steps = [Step(("x",), ("a",)), Step(("x",), ("b",)), Step(("b",), ("y",))]
    assert peak_bytes(steps, SIZES, ["x"], ["a", "y"]) == 35
    assert peak_bytes(steps, SIZES, ["x"], ["y"]) == 30


def test_constants_take_nothing_and_an_empty_schedule_holds_its_inputs():
    assert peak_bytes([Step(("x", "weights"), ("y",))], SIZES, ["x"], ["y"]) == 11
    assert peak_bytes([], SIZES, ["x"], ["x"]) == 10


def test_scratch_counts_for_its_step_alone():
    steps = [Step(("x",), ("a",), scratch=100), Step(("a",), ("y",))]
    assert peak_bytes(steps, SIZES, ["x"], ["y"]) == 130


def test_keras_graph_with_a_shortcut():
    image = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 1)(image)
    y = layers.Conv2D(3, 1)(x)
    y = layers.ReLU()(y)
    model = keras.Model(image, layers.Add()([x, y]))
    # At ReLU and at Add three tensors of 16 x 3 floats are alive.
    assert graph_activation_bytes(model) == 3 * 16 * 3 * 4


def test_nested_model_counts_what_happens_inside():
    inner = keras.Sequential([keras.Input((2,)), layers.Dense(100), layers.Dense(50), layers.Dense(1)])
    outer_input = keras.Input((2,))
    outer = keras.Model(outer_input, inner(outer_input))
    # Inside: 100 and 50 numbers side by side; the outer input of 2 stays until the call ends.
    assert 150 * 4 <= graph_activation_bytes(outer) <= 153 * 4


def test_unknown_without_a_graph_or_with_free_axes():
    free = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 1)])
    assert graph_activation_bytes(free) is None
