"""Training manners: phases, mixed precision, several steps per call, replicas, pruning, resumption."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.quantization.test_aware import compiled, data_of, wrapped
from tests.zoo import ZOO, zoo_inputs, zoo_targets
from tfsqueeze.quantization.measuring import activation_quantizers


def small():
    """Convolution, BatchNormalization and a sum: few operations, so that it compiles fast."""
    image = keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(2, name="head")(x), name="small")


def trained(model, callbacks=(), epochs=1, **options):
    compiled(model, **options)
    inputs, targets = zoo_inputs(model, 16), zoo_targets(model, 16)
    history = model.fit(inputs, targets, batch_size=4, epochs=epochs, verbose=0, callbacks=list(callbacks))
    assert np.isfinite(history.history["loss"]).all()
    return model


class Watch(keras.callbacks.Callback):
    """Notes after each step what is rounded and what has moved."""

    def __init__(self):
        super().__init__()
        self.rounding, self.bounds, self.means = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        quantizer = self.model.get_layer("head")
        self.rounding.append(quantizer.is_rounding)
        self.bounds.append(quantizer.bounds())
        self.means.append(self.model.get_layer("norm").moving_mean.numpy().copy())


def test_rounding_starts_and_ranges_and_statistics_freeze_at_their_steps():
    qat, watch = tfs.quantize_aware(small()), Watch()
    phases = tfs.QuantizationCallback(start_step=2, freeze_ranges_step=4, freeze_batch_norm_step=5)
    trained(qat, [watch, phases], epochs=2)
    assert watch.rounding == [False, False, *[True] * 6]
    assert len(set(watch.bounds[:4])) == 4
    assert len(set(watch.bounds[3:])) == 1
    assert not np.array_equal(watch.means[3], watch.means[4])
    np.testing.assert_array_equal(watch.means[4], watch.means[7])
    assert qat.get_layer("norm").trainable
    assert qat.get_layer("head").is_measuring


def test_the_callback_refuses_plain_models_and_bad_steps():
    with pytest.raises(tfs.UnsupportedModelError, match="not quantization-aware"):
        trained(small(), [tfs.QuantizationCallback()])
    with pytest.raises(ValueError, match="start_step=-1"):
        tfs.QuantizationCallback(start_step=-1)


def test_several_steps_per_call_and_compiled_steps():
    trained(tfs.quantize_aware(small()), steps_per_execution=2)
    trained(tfs.quantize_aware(small()), jit_compile=True)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = small()
    finally:
        keras.config.set_dtype_policy("float32")
    qat = trained(tfs.quantize_aware(model, "int4"))
    assert all(variable.dtype == "float32" for variable in qat.variables)
    assert all(quantizer.is_trained for quantizer in activation_quantizers(qat))


def test_replicas_share_ranges(mirrored):
    with mirrored.scope():
        qat = tfs.quantize_aware(small())
        compiled(qat, jit_compile=False)
    qat.fit(zoo_inputs(qat, 16), zoo_targets(qat, 16), batch_size=8, verbose=0)
    assert all(quantizer.is_trained for quantizer in activation_quantizers(qat))


def test_pruned_weights_stay_zero_through_rounding_and_export(tmp_path):
    model = tfs.prune(small(), 0.5)
    qat = tfs.quantize_aware(model, data=data_of(model))
    trained(qat, [tfs.PruningCallback()])
    plain = tfs.strip_quantization(qat)
    kernel = plain.get_layer("conv").kernel.numpy()
    assert (kernel == 0).mean() >= 0.5
    assert set(tfs.explain(tfs.prune(qat, 0.5)).done) == {"conv/conv/kernel", "head_unrounded/head/kernel"}


def test_training_resumes_where_it_was(tmp_path):
    qat = trained(tfs.quantize_aware(small(), "int4"))
    qat.save(tmp_path / "qat.keras")
    loaded = keras.models.load_model(tmp_path / "qat.keras")
    inputs, targets = zoo_inputs(qat, 16), zoo_targets(qat, 16)
    for model in (qat, loaded):
        model.fit(inputs, targets, batch_size=4, shuffle=False, verbose=0)
    for old, new in zip(qat.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(old.numpy(), new.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_loss_aware_rounding_takes_the_curvature_of_the_optimizer():
    qat = tfs.quantize_aware(small(), {"weights": "ternary_loss_aware", "first_and_last_bits": None})
    trained(qat, [tfs.QuantizationCallback()])
    ((kernel, curvature),) = qat.get_layer("conv").curvatures()
    moment = qat.optimizer._velocities[qat.optimizer._get_variable_index(kernel)]
    np.testing.assert_allclose(curvature.numpy() - 1e-8, np.sqrt(moment.numpy()), rtol=1e-3, atol=1e-7)
    qat.compile("sgd", "mse")
    with pytest.raises(tfs.UnsupportedModelError, match="SGD does not keep"):
        qat.fit(zoo_inputs(qat), zoo_targets(qat), callbacks=[tfs.QuantizationCallback()], verbose=0)


def test_layers_are_chosen_and_set_apart():
    model = ZOO["depthwise"]()
    qat = tfs.quantize_aware(
        model, "int4", select=tfs.Select(skip="head"), overrides={layers.DepthwiseConv2D: "int8"}
    )
    bits = {layer.layer.name: layer.bits for layer in wrapped(qat)}
    assert bits == {"stem": 8, "depthwise": 8, "pointwise": 4, "separable": 8}
    assert "left out" in tfs.explain(qat).skipped["head"]


@keras.saving.register_keras_serializable(package="test_quantization")
class Scores(layers.Layer):
    """A layer of a user's, unknown to tfsqueeze."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=(input_shape[-1], 3), name="table")

    def call(self, inputs):
        return inputs @ self.table


def test_a_layer_of_the_users_stays_float_unless_its_kernels_are_named():
    image = keras.Input((6,))
    model = keras.Model(image, Scores(name="scores")(layers.Dense(4, name="first")(image)))
    assert "kernels={Scores: (...)}" in tfs.explain(tfs.quantize_aware(model)).skipped["scores"]
    qat = tfs.quantize_aware(model, kernels={Scores: "table"})
    assert [layer.layer.name for layer in wrapped(qat)] == ["first", "scores"]
    with pytest.raises(ValueError, match="no variable 'kernel'"):
        tfs.quantize_aware(model, kernels={Scores: "kernel"})
