"""One-shot pruning: exact zeros where the smallest weights were, and nothing else changed."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO, Perceptron, zoo_inputs
from tfsqueeze.pruning.targets import find_targets


def kernels_of(model, select=None):
    return {target.path: target.variable.numpy() for target in find_targets(model, select)[0]}


@pytest.mark.parametrize("name", ZOO)
def test_exact_zeros_and_kept_weights_unchanged(name):
    model = ZOO[name]()
    before = kernels_of(model)
    pruned = kernels_of(tfs.prune(model, 0.6))
    assert pruned.keys() == before.keys()
    for path, kernel in pruned.items():
        assert (kernel == 0).sum() == round(0.6 * kernel.size)
        np.testing.assert_array_equal(kernel[kernel != 0], before[path][kernel != 0])
        assert np.abs(before[path][kernel == 0]).max() <= np.abs(kernel[kernel != 0]).min()


@pytest.mark.parametrize("name", ZOO)
def test_zero_sparsity_changes_nothing(name):
    model = ZOO[name]()
    inputs = zoo_inputs(model)
    pruned = tfs.prune(model, 0.0)
    keras.tree.map_structure(np.testing.assert_array_equal, model(inputs), pruned(inputs))


@pytest.mark.parametrize("name", ZOO)
def test_saved_models_keep_their_zeros(name, tmp_path):
    pruned = tfs.prune(ZOO[name](), 0.7)
    pruned.save(tmp_path / "pruned.keras")
    loaded = kernels_of(keras.models.load_model(tmp_path / "pruned.keras"))
    for path, kernel in kernels_of(pruned).items():
        np.testing.assert_array_equal(kernel, loaded[path])


def test_biases_and_normalisation_are_never_pruned():
    model = tfs.prune(ZOO["residual"](), 0.9)
    others = [w for w in model.weights if w.name not in ("kernel",)]
    assert all((w.numpy() != 0).all() for w in others if w.name in ("gamma", "moving_variance", "bias"))


def test_depthwise_and_embedding_only_when_selected():
    model = ZOO["depthwise"]()
    assert "depthwise/kernel" not in kernels_of(model)
    assert list(kernels_of(model, "depthwise")) == ["depthwise/kernel"]
    chosen = kernels_of(tfs.prune(ZOO["recurrent"](), 0.5, select=layers.Embedding), "embedding")
    assert (chosen["embedding/embeddings"] == 0).mean() == 0.5


def test_frozen_layers_are_left_alone_unless_selected():
    model = ZOO["sequential"]()
    model.get_layer("conv2").trainable = False
    assert "frozen" in tfs.explain(tfs.prune(model, 0.5)).skipped["conv2"]
    assert "conv2/kernel" in tfs.explain(tfs.prune(model, 0.5, select="conv2")).done


def test_a_shared_kernel_is_pruned_once():
    assert list(kernels_of(ZOO["shared"]())) == ["tower/kernel", "head/kernel"]


def test_a_criterion_of_the_users():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    pruned = tfs.prune(model, 0.5, criterion=lambda kernel: -np.abs(kernel))
    kept = np.abs(pruned.layers[0].kernel.numpy())
    assert kept[kept > 0].max() <= np.sort(np.abs(model.layers[0].kernel.numpy()), None)[5]
    with pytest.raises(ValueError, match=r"one score per weight, shape \(4, 3\).*'dense.*/kernel'"):
        tfs.prune(model, 0.5, criterion=lambda kernel: kernel.sum(0))


def test_the_explanation_tells_what_was_done():
    explanation = tfs.explain(tfs.prune(ZOO["sequential"](), 0.5, select="conv.*"))
    assert explanation.verb == "prune"
    assert explanation.done["conv1/kernel"] == {"weights": 162, "zeros": 81}
    assert explanation.skipped["head"] == "not selected"
    assert "conv1/kernel" in str(explanation)
    with pytest.raises(ValueError, match="Nothing is known of model 'sequential'"):
        tfs.explain(ZOO["sequential"]())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"sparsity": 1.2},
            ValueError,
            r"`sparsity` must be in \[0, 1\). Received: sparsity=1.2.*prune_channels",
        ),
        ({"sparsity": -0.1}, ValueError, r"must be in \[0, 1\)"),
        ({"sparsity": "half"}, ValueError, r"must be in \[0, 1\). Received: sparsity='half'"),
        ({"sparsity": float("nan")}, ValueError, r"must be in \[0, 1\)"),
        ({"sparsity": 0.5, "criterion": "magnitud"}, ValueError, "Did you mean 'magnitude'"),
        ({"sparsity": 0.5, "pattern": "zebra"}, ValueError, "`pattern` must be one of"),
        ({"sparsity": 0.5, "scope": "galaxy"}, ValueError, "`scope` must be one of"),
        ({"sparsity": 0.5, "select": "conv9"}, ValueError, r"matches no layer.*conv"),
        ({"sparsity": 0.5, "select": "bn1"}, ValueError, "cannot be worked on"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        tfs.prune(ZOO["sequential"](), **arguments)


def test_wrong_models():
    with pytest.raises(tfs.UnsupportedModelError, match="no weights yet"):
        tfs.prune(Perceptron(), 0.5)
    with pytest.raises(TypeError, match=r"tfs\.load_model"):
        tfs.prune("model.h5", 0.5)
    broken = ZOO["shared"]()
    broken.get_layer("tower").kernel.assign(np.full((6, 8), np.nan))
    with pytest.raises(ValueError, match="'tower/kernel' holds NaN"):
        tfs.prune(broken, 0.5)


def test_a_layer_object_of_the_original_can_be_selected():
    model = ZOO["nested"]()
    pruned = tfs.prune(model, 0.5, select=[model.get_layer("head"), model.get_layer("backbone")])
    assert list(tfs.explain(pruned).done) == ["backbone/inner_conv/kernel", "head/kernel"]
    assert (pruned.get_layer("head").kernel.numpy() == 0).sum() == 6
    assert (model.get_layer("head").kernel.numpy() != 0).all()
