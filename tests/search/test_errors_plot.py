"""The picture of rounding errors has a bar per layer, the most damaging first."""

import math

import pytest

from tfsqueeze.search.quantization_errors import LayerError, QuantizationErrors


def test_bars_are_the_ratios_of_the_outputs_and_rings_those_of_the_weights(tmp_path):
    layers = {
        "conv": LayerError(20.0, 30.0, 0.01),
        "pool (output)": LayerError(None, 50.0, 0.0),
        "head": LayerError(25.0, math.inf, -0.02),
    }
    errors = QuantizationErrors(layers, 18.0, 0.9, 0.88, "accuracy")
    (axes,) = errors.plot(tmp_path / "errors.png").axes
    order = [label.get_text() for label in axes.get_yticklabels()]
    assert order == errors.most_damaging() == ["conv", "pool (output)", "head"]
    assert [bar.get_width() for bar in axes.patches[:3]] == pytest.approx([30, 50, 54])
    rings = [tuple(ring.get_offsets()[0]) for ring in axes.collections if len(ring.get_offsets())]
    assert rings == [(20, 0), (25, 2)]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["-0.0100", "0", "exact, +0.0200", "accuracy"]
    assert (tmp_path / "errors.png").stat().st_size > 1000


def test_without_a_score_no_change_is_told():
    (axes,) = QuantizationErrors({"conv": LayerError(20.0, 30.0)}, 18.0).plot().axes
    assert [text.get_text() for text in axes.texts] == [""]
