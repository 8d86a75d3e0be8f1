"""Removing residual blocks equals their branches giving zeros, in every form that blocks come in."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsqueeze as tfs
from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.pruning.depth import block_scores, prune_depth
from tfsqueeze.pruning.residual_blocks import find_blocks


def conv_bn(x, filters, name, activation=True):
    x = layers.Conv2D(filters, 1, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if activation else x


def post_activation(blocks=3):
    image = keras.Input((8, 8, 3))
    x = conv_bn(image, 6, "stem")
    for index in range(blocks):
        y = conv_bn(conv_bn(x, 6, f"b{index}_1"), 6, f"b{index}_2", activation=False)
        terms = [x, y] if index % 2 else [y, x]
        x = layers.ReLU(name=f"b{index}_out")(layers.Add(name=f"b{index}_add")(terms))
    y = layers.Conv2D(8, 1, strides=2, name="projection")(x)
    z = layers.Conv2D(8, 3, strides=2, padding="same", name="down")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add(name="projected_add")([y, z]))
    return keras.Model(image, layers.Dense(3, name="head")(x))


def transformer():
    tokens = keras.Input((5, 8))
    x = tokens * 1.0
    for index in range(3):
        y = layers.LayerNormalization(name=f"t{index}_norm")(x)
        x = x + layers.MultiHeadAttention(2, 4, name=f"t{index}_attention")(y, y)
        y = layers.Dense(8, name=f"t{index}_down")(layers.Dense(16, "gelu", name=f"t{index}_up")(x))
        x = ops.add(y, x)
    return keras.Model(tokens, layers.Dense(2, name="head")(ops.mean(x, axis=1)))


def nested():
    image = keras.Input((8, 8, 3))
    inner_image = keras.Input((8, 8, 6))
    y = layers.Conv2D(6, 3, padding="same", name="inner_conv")(inner_image)
    inner = keras.Model(
        inner_image, layers.ReLU()(layers.Add(name="inner_add")([inner_image, y])), name="inner"
    )
    x = inner(layers.Conv2D(6, 1, name="stem")(image))
    return keras.Model(image, layers.Dense(2, name="head")(layers.Flatten()(x)))


def random_inputs(model, count=8):
    return np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype("float32")


@pytest.mark.parametrize("build, count", [(post_activation, 3), (transformer, 6), (nested, 1)])
def test_dropping_equals_silent_branches_and_survives_a_file(build, count, tmp_path):
    model = build()
    x = random_inputs(model)
    before = model(x)
    blocks, _ = find_blocks(model)
    assert len(blocks) == count
    pruned = prune_depth(model, blocks=count)
    gone = {layer.name for block in blocks for layer in block.layers}
    assert gone.isdisjoint(part.name for part in pruned._flatten_layers())
    np.testing.assert_array_equal(model(x), before)
    for block in blocks:
        for layer in block.layers:
            if not isinstance(layer, (layers.BatchNormalization, layers.LayerNormalization)):
                layer.set_weights([np.zeros_like(value) for value in layer.get_weights()])
            elif isinstance(layer, layers.BatchNormalization):
                layer.gamma.assign(0 * layer.gamma)
                layer.beta.assign(0 * layer.beta)
    np.testing.assert_allclose(pruned(x), model(x), atol=1e-5)
    pruned.save(tmp_path / "shallow.keras")
    loaded = keras.models.load_model(tmp_path / "shallow.keras")
    np.testing.assert_array_equal(loaded(x), pruned(x))


def test_no_blocks_is_an_identical_model():
    model = post_activation()
    x = random_inputs(model)
    np.testing.assert_array_equal(prune_depth(model, blocks=0)(x), model(x))
    np.testing.assert_array_equal(prune_depth(model, ratio=0.3)(x), model(x))


@pytest.mark.parametrize("criterion", ["cosine", "change"])
def test_the_block_that_does_least_goes_first(criterion):
    model = post_activation()
    layer = model.get_layer("b1_2_bn")
    layer.gamma.assign(1e-3 * layer.gamma)
    x = random_inputs(model, 32)
    pruned = prune_depth(model, blocks=1, criterion=criterion, data=x)
    rows = tfs.explain(pruned).done
    assert [name for name, row in rows.items() if row["removed"]] == ["b1_add"]
    assert "projected_add" in tfs.explain(pruned).skipped
    np.testing.assert_allclose(pruned(x), model(x), atol=1e-2)


def test_scores_by_hand():
    vector = keras.Input((2,))
    branch = layers.Dense(2, use_bias=False, kernel_initializer=keras.initializers.Constant(0), name="turn")
    x = layers.Add(name="sum")([vector, branch(vector)])
    model = keras.Model(vector, layers.ReLU()(x))
    branch.kernel.assign([[0.0, 1.0], [-1.0, 0.0]])
    data = np.array([[1.0, 0.0], [0.0, 2.0]], "float32")
    blocks, _ = find_blocks(model)
    assert block_scores(model, blocks, "cosine", data)[0] == pytest.approx(1 - np.sqrt(0.5), rel=1e-5)
    assert block_scores(model, blocks, "change", data)[0] == pytest.approx(np.sqrt(0.5), rel=1e-5)


def test_regular_intervals():
    blocks = [None] * 7
    order = np.argsort(block_scores(None, blocks, "regular"))
    assert order[0] == 3 and sorted(order[:3]) == [1, 3, 5]
    removed = tfs.explain(prune_depth(post_activation(), blocks=1)).done
    assert [name for name, row in removed.items() if row["removed"]] == ["b1_add"]


def test_macs_are_met_by_as_few_blocks_as_possible():
    model = post_activation()
    pruned = prune_depth(model, macs=0.85)
    assert sum(row["removed"] for row in tfs.explain(pruned).done.values()) == 1
    with pytest.raises(ValueError, match="cannot be reached: without all 3"):
        prune_depth(model, macs=0.01)


def test_selection_protects_blocks():
    model = post_activation()
    pruned = prune_depth(model, ratio=0.99, select=tfs.Select(skip="b0_1_conv"))
    assert tfs.explain(pruned).skipped["b0_add"] == "not all of its layers are selected"
    with pytest.raises(ValueError, match="in no residual block"):
        prune_depth(model, blocks=1, select="stem_conv")


def test_what_is_no_droppable_block():
    x = keras.Input((4,))
    a = layers.Dense(4)(x)
    late = layers.Add(name="late")([a, layers.Dense(4)(a)])
    model = keras.Model(x, late)
    assert find_blocks(model) == ([], {"late": "an output of the model"})
    outer = keras.Model(x, layers.ReLU()(layers.Add(name="outer")([x, layers.ReLU()(late)])))
    blocks, others = find_blocks(outer)
    assert [block.name for block in blocks] == ["late"]
    assert others == {"outer": "it encloses other blocks"}


def test_errors():
    model = post_activation()
    with pytest.raises(ValueError, match="Give exactly one target"):
        prune_depth(model)
    with pytest.raises(ValueError, match="Give exactly one target"):
        prune_depth(model, blocks=1, macs=0.5)
    with pytest.raises(ValueError, match="only 3 residual blocks"):
        prune_depth(model, blocks=4)
    with pytest.raises(ValueError, match="whole number >= 0"):
        prune_depth(model, blocks=1.5)
    with pytest.raises(ValueError, match="needs `data`"):
        prune_depth(model, blocks=1, criterion="cosine")
    with pytest.raises(ValueError, match="must be one of"):
        prune_depth(model, blocks=1, criterion="cosin")
    with pytest.raises(ValueError, match="must have shape"):
        prune_depth(model, blocks=1, data=np.zeros((2, 3), "float32"))
    with pytest.raises(tfs.UnsupportedModelError, match="subclassed"):
        prune_depth(ZOO["subclassed"](), blocks=1)


def test_a_compiled_model_goes_on_training():
    model = ZOO["residual"]()
    model.compile("adam", "mse")
    pruned = prune_depth(model, blocks=1)
    inputs = zoo_inputs(model, 4)
    pruned.fit(inputs, np.zeros((4, 3), "float32"), verbose=0)
