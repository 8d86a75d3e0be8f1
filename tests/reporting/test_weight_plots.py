"""Pictures of weights and channels show what is there."""

import keras
import numpy as np
import pytest
from keras import layers
from matplotlib.image import AxesImage

import tfsqueeze as tfs
from tests.zoo import GRAPH_ZOO, ZOO
from tfsqueeze.reporting.channel_plot import graph_rows
from tfsqueeze.reporting.weight_plots import _coloured


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.fixture(scope="module")
def model():
    return ZOO["sequential"]()


@pytest.mark.parametrize("name", ZOO)
def test_weights_and_masks_of_every_model_can_be_drawn(name):
    model = ZOO[name]()
    assert tfs.plot_weights({"model": model}, most=2).axes
    assert tfs.plot_masks(model, most=1).axes


def test_histograms_show_each_model_and_count_its_zeros(model, tmp_path):
    pruned = tfs.prune(model, 0.5)
    figure = tfs.plot_weights({"dense": model, "pruned": pruned}, tmp_path / "weights.svg", select="conv2")
    (axes,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dense", "pruned"]
    assert texts(axes) == ["50% zeros"]
    assert (axes.get_title("left"), axes.get_title("right")) == ("conv2", "432 weights")
    assert (tmp_path / "weights.svg").stat().st_size > 1000


def test_the_largest_kernels_are_drawn_in_the_order_of_the_model(model):
    titles = [axes.get_title("left") for axes in tfs.plot_weights({"model": model}, most=2).axes]
    assert titles == ["conv1", "conv2"]


def test_a_quantized_model_is_drawn_rounded(model):
    quantized = tfs.quantize_aware(model, "ternary")
    figure = tfs.plot_masks({"trained": model, "ternary": quantized}, select="conv2")
    trained, ternary = (axes.get_title("right") for axes in figure.axes)
    assert trained == "0% zeros" and int(ternary.split("%")[0]) > 10
    assert figure.axes[1].get_title("left") == "ternary: conv2"


def test_zeros_are_white_and_only_they():
    colours = _coloured(np.array([[0.0, 1e-6], [-2.0, 3.0]]))
    np.testing.assert_array_equal(colours.min(-1) == 1, [[True, False], [False, False]])
    assert colours[1, 0, 0] > colours[1, 0, 2] and colours[1, 1, 2] > colours[1, 1, 0]


def test_a_mask_has_a_column_for_each_output_channel(model):
    figure = tfs.plot_masks(tfs.prune(model, 0.5, pattern="columns", select="conv2"), select="conv2")
    (image,) = [artist for artist in figure.axes[0].get_children() if isinstance(artist, AxesImage)]
    white = image.get_array().min(-1) == 1
    assert white.shape == (54, 8)
    assert sorted(white.mean(0)) == [0] * 4 + [1] * 4


@pytest.mark.parametrize("name", GRAPH_ZOO)
def test_every_graph_can_be_drawn(name):
    model = ZOO[name]()
    rows = graph_rows(model)
    assert all(source < place for place, row in enumerate(rows) for source in row.sources)
    assert [row for row in rows if not row.sources] == rows[: len(model.inputs)]
    assert len({row.path for row in rows}) == len(rows)
    assert tfs.plot_channels(model).axes


def test_rows_are_what_has_weights_and_what_joins():
    rows = graph_rows(ZOO["residual"]())
    assert [(row.channels, row.sources) for row in rows] == [
        (4, []),
        (8, [0]),
        (8, [1]),
        (8, [1, 2]),
        (3, [3]),
    ]
    assert [row.path for row in rows[:3]] == ["image", "stem", "block_conv"]


def test_removed_channels_and_layers_are_told(tmp_path):
    model = ZOO["residual"]()
    small = tfs.prune_channels(model, ratio=0.5)
    (axes,) = tfs.plot_channels(model, small, tmp_path / "channels.png").axes
    assert [text.strip() for text in texts(axes)] == ["4", "8 → 4", "8 → 4", "8 → 4", "3"]
    assert (tmp_path / "channels.png").stat().st_size > 1000
    other = keras.Sequential([keras.Input((8, 8, 4), name="image"), layers.Conv2D(8, 1, name="stem")])
    assert " 8 → gone" in texts(tfs.plot_channels(model, other).axes[0])


def test_mistakes_are_explained(model):
    with pytest.raises(TypeError, match="dict of models by name"):
        tfs.plot_weights(model)
    with pytest.raises(ValueError, match="nothing to draw"):
        tfs.plot_masks({})
    with pytest.raises(ValueError, match="`select` matches no layer"):
        tfs.plot_weights({"model": model}, select="conv9")
    with pytest.raises(tfs.UnsupportedModelError, match="plot_channels"):
        tfs.plot_channels(ZOO["subclassed"]())
