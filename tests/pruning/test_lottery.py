"""Lottery tickets: nested masks, exact rewinding, resuming, controls."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO, zoo_inputs, zoo_targets
from tfsqueeze.pruning.lottery import find_ticket
from tfsqueeze.pruning.targets import find_targets


class Trainer:
    """Fits on random data; keeps the weights and the kernels' zeros each training began with."""

    def __init__(self, epochs=1, stop_at=None, pass_on=True):
        self.epochs, self.stop_at, self.pass_on = epochs, stop_at, pass_on
        self.began, self.ended = [], []

    def __call__(self, model, callbacks):
        if len(self.began) == self.stop_at:
            raise KeyboardInterrupt
        self.began.append([variable.numpy() for variable in model.weights])
        losses = {"kind": "mse", "score": "mae"} if model.name == "multi_output" else "mse"
        # Eager steps are faster than tracing where there are only two of them.
        model.compile(keras.optimizers.Adam(0.05), losses, run_eagerly=True)
        x, y = zoo_inputs(model, 8), zoo_targets(model, 8)
        history = model.fit(
            x, y, batch_size=4, epochs=self.epochs, verbose=0, callbacks=callbacks if self.pass_on else None
        )
        self.ended.append({target.path: target.variable.numpy() for target in find_targets(model)[0]})
        return history


def untrained(model, callbacks):
    """Stands in for training where only masks and rewinding matter."""


def mlp(**kwargs):
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(16, activation="relu", name="hidden", **kwargs),
            layers.Dense(3, name="head", **kwargs),
        ],
        name="mlp",
    )


@pytest.mark.parametrize("name", ["residual", "subclassed", "shared", "multi_output"])
def test_rounds_prune_geometrically_and_rewind_exactly(name):
    model = ZOO[name]()
    before = [variable.numpy() for variable in model.weights]
    train = Trainer()
    ticket = find_ticket(model, train, sparsity=0.75, rounds=2, scope="layer")
    for original, variable in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(original, variable.numpy())
    assert [row["sparsity"] for row in ticket.history] == pytest.approx([0, 0.5, 0.75], abs=0.02)
    assert all(row["metrics"]["loss"] > 0 for row in ticket.history)
    kernel_shapes = {mask.shape for mask in ticket.masks.values()}
    for began in train.began:
        for original, value in zip(before, began, strict=True):
            changed = value != original
            assert not changed.any() or (original.shape in kernel_shapes and not value[changed].any())
    for path in ticket.masks:
        first, second, third = (ended[path] != 0 for ended in train.ended)
        assert (third <= second).all() and (second <= first).all()
        np.testing.assert_array_equal(third, ticket.masks[path])


def test_the_smallest_trained_weights_go_and_the_others_are_rewound():
    model, train = mlp(), Trainer()
    initial = {target.path: target.variable.numpy() for target in find_targets(model)[0]}
    ticket = find_ticket(model, train, sparsity=0.5, rounds=1)
    trained = np.concatenate([np.abs(kernel).ravel() for kernel in train.ended[0].values()])
    kept = np.concatenate([ticket.masks[path].ravel() for path in train.ended[0]])
    assert kept.sum() == round(0.5 * kept.size)
    assert trained[kept].min() >= trained[~kept].max()
    rewound = {target.path: target.variable.numpy() for target in find_targets(ticket.model)[0]}
    for path, mask in ticket.masks.items():
        np.testing.assert_array_equal(rewound[path], initial[path] * mask)
        assert (ticket.model.get_layer(path.split("/")[0]).bias.numpy() == 0).all()
    assert not np.array_equal(ticket.trained.layers[0].kernel, ticket.model.layers[0].kernel)


def test_late_rewinding_to_steps():
    model, seen = mlp(), []

    class Spy(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if len(seen) < 3:
                seen.append([variable.numpy() for variable in self.model.weights])

    trainer = Trainer(epochs=2)
    ticket = find_ticket(model, lambda m, c: trainer(m, [*c, Spy()]), sparsity=0.5, rounds=1, rewind=3)
    mask = ticket.masks["hidden/kernel"]
    np.testing.assert_array_equal(ticket.model.layers[0].kernel, seen[2][0] * mask)
    np.testing.assert_array_equal(ticket.model.layers[0].bias, seen[2][1])
    with pytest.raises(ValueError, match="rewind=50 steps were not reached: `train` made 2 optimizer steps"):
        find_ticket(mlp(), Trainer(), rewind=50)


def test_rewinding_to_given_weights_or_by_a_function():
    model = mlp()
    early = [np.full(w.shape, 0.5 + i, "float32") for i, w in enumerate(model.weights)]
    other = mlp()
    other.set_weights(early)
    for rewind in (early, other, lambda twin: twin.set_weights(early)):
        ticket = find_ticket(model, untrained, sparsity=0.5, rounds=1, rewind=rewind)
        mask = ticket.masks["head/kernel"]
        np.testing.assert_array_equal(ticket.model.layers[1].kernel, np.where(mask, 2.5, 0))
        np.testing.assert_array_equal(ticket.model.layers[1].bias, early[3])


def test_the_control_has_the_masks_and_other_weights():
    model = mlp(kernel_initializer=keras.initializers.GlorotUniform(seed=3), bias_initializer="random_normal")
    ticket = find_ticket(model, Trainer(), sparsity=0.8, rounds=1)
    first, again, second = (ticket.control(seed) for seed in (1, 1, 2))
    for path, mask in ticket.masks.items():
        name = path.split("/")[0]
        kernels = [np.asarray(m.get_layer(name).kernel) for m in (first, again, second, ticket.model)]
        for kernel in kernels:
            np.testing.assert_array_equal(kernel != 0, mask)
        np.testing.assert_array_equal(kernels[0], kernels[1])
        assert (kernels[0] != kernels[2])[mask].all()
        assert (kernels[0] != kernels[3])[mask].all()
    Trainer()(first, [tfs.PruningCallback()])
    np.testing.assert_array_equal(first.get_layer("head").kernel.numpy() != 0, ticket.masks["head/kernel"])


def test_work_goes_on_after_the_last_finished_training(tmp_path):
    def build():
        keras.utils.set_random_seed(4)
        return mlp()

    whole = find_ticket(build(), Trainer(), sparsity=0.6, rounds=2, rewind=2)
    with pytest.raises(KeyboardInterrupt):
        find_ticket(build(), Trainer(stop_at=1), sparsity=0.6, rounds=2, rewind=2, storage=tmp_path)
    rest = Trainer()
    resumed = find_ticket(build(), rest, sparsity=0.6, rounds=2, rewind=2, storage=tmp_path)
    assert len(rest.began) == 2
    idle = Trainer()
    finished = find_ticket(build(), idle, sparsity=0.6, rounds=2, rewind=2, storage=tmp_path)
    assert not idle.began
    assert finished.history == resumed.history and len(resumed.history) == 3
    for one, other in ((resumed.model, finished.model), (resumed.trained, finished.trained)):
        for a, b in zip(one.weights, other.weights, strict=True):
            np.testing.assert_array_equal(a, b)
    assert whole.sparsity == resumed.sparsity == finished.sparsity
    assert sorted(path.name for path in tmp_path.iterdir()) == ["initial.weights.h5", "ticket.npz"]


def test_storage_of_other_work_is_refused(tmp_path):
    model = mlp()
    find_ticket(model, Trainer(), sparsity=0.5, rounds=1, storage=tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(sparsity: 0\.5 there, 0\.6 now\)"):
        find_ticket(model, Trainer(), sparsity=0.6, rounds=1, storage=tmp_path)
    other = mlp()
    with pytest.raises(ValueError, match=r"other weights.*load_weights\('.*initial\.weights\.h5'\)"):
        find_ticket(other, Trainer(), sparsity=0.5, rounds=1, storage=tmp_path)
    other.load_weights(tmp_path / "initial.weights.h5")
    assert find_ticket(other, Trainer(), sparsity=0.5, rounds=1, storage=tmp_path).history
    (tmp_path / "ticket.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is damaged or was not written by find_ticket"):
        find_ticket(model, Trainer(), sparsity=0.5, rounds=1, storage=tmp_path)


def test_patterns_and_scopes():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="d"), layers.Dense(3, name="e")])
    ticket = find_ticket(model, untrained, sparsity=0.5, rounds=2, pattern="2:4", scope="layer")
    groups = ticket.masks["d/kernel"].reshape(2, 4, 8).sum(1)
    assert (groups == 2).all()
    ticket = find_ticket(model, untrained, rounds=2, scope={"d": 0.75, "e": 0.0})
    assert (~ticket.masks["d/kernel"]).mean() == 0.75
    assert ticket.masks["e/kernel"].all()
    assert ticket.history[1]["sparsity"] == pytest.approx(0.5 * 64 / 88)


def test_a_criterion_of_the_users_never_revives_the_dead():
    train = Trainer()
    ticket = find_ticket(mlp(), train, sparsity=0.75, rounds=2, criterion=lambda kernel: -np.abs(kernel))
    assert [row["sparsity"] for row in ticket.history] == [0, 0.5, 0.75]
    first = train.ended[1]["hidden/kernel"]
    assert (ticket.masks["hidden/kernel"] <= (first != 0)).all()
    with pytest.raises(ValueError, match="one score per weight"):
        find_ticket(mlp(), train, rounds=1, criterion=lambda kernel: kernel.sum())


def test_an_emptied_layer_is_warned_of():
    model = mlp()
    model.layers[1].kernel.assign(model.layers[1].kernel * 1e-6)
    with pytest.warns(UserWarning, match=r"Every weight of head/kernel is pruned.*'lamp'"):
        find_ticket(model, untrained, sparsity=0.5, rounds=1)


def test_living_weights_that_begin_at_zero_stay_alive():
    train = Trainer()
    ticket = find_ticket(mlp(kernel_initializer="zeros"), train, sparsity=0.5, rounds=1)
    trained = ticket.trained.get_layer("head").kernel.numpy()
    assert (trained[~ticket.masks["head/kernel"]] == 0).all()
    np.testing.assert_array_equal(
        ticket.model.get_layer("head").kernel.numpy() != 0, ticket.masks["head/kernel"]
    )
    np.testing.assert_allclose(ticket.model.get_layer("head").kernel, 0, atol=1e-30)


def test_what_train_returns_is_kept():
    def train(model, callbacks):
        return returned

    returned = {"accuracy": np.float32(0.5)}
    assert find_ticket(mlp(), train, rounds=1).history[0]["metrics"] == {"accuracy": 0.5}
    returned = 0.25
    ticket = find_ticket(mlp(), train, rounds=1)
    assert ticket.history[1]["metrics"] == {"score": 0.25}
    assert "89.84% zeros in 2 kernels" in str(ticket) and "score 0.25" in str(ticket)
    returned = "well"
    with pytest.warns(UserWarning, match="left out of the ticket's history"):
        assert find_ticket(mlp(), train, rounds=1).history[0]["metrics"] == {}


def test_a_compiled_model_gives_compiled_copies():
    model = mlp()
    model.compile("sgd", "mse")
    x, y = np.ones((8, 5), "float32"), np.ones((8, 3), "float32")

    def train(twin, callbacks):
        assert int(twin.optimizer.iterations) == 0
        return twin.fit(x, y, verbose=0, callbacks=callbacks)

    ticket = find_ticket(model, train, rounds=1, criterion="taylor", data=(x, y))
    assert ticket.model.compiled and ticket.control(1).compiled


def test_under_a_distribution_strategy(mirrored):
    with mirrored.scope():
        model = mlp()

    def train(twin, callbacks):
        with mirrored.scope():
            twin.compile("adam", "mse")
        data = tf.data.Dataset.from_tensor_slices((zoo_inputs(model, 8), np.ones((8, 3)))).batch(4)
        return twin.fit(data, verbose=0, shuffle=False, callbacks=callbacks)

    ticket = find_ticket(model, train, rounds=1, rewind=1)
    trained = ticket.trained.get_layer("hidden").kernel.numpy()
    np.testing.assert_array_equal(trained != 0, ticket.masks["hidden/kernel"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sparsity": 1.0}, ValueError, r"`sparsity` must be in \[0, 1\)"),
        ({"rounds": 0}, ValueError, "`rounds` must be a whole number >= 1. Received: rounds=0"),
        ({"rounds": 2.5}, ValueError, "`rounds` must be a whole number"),
        ({"rewind": 0}, ValueError, "`rewind` must be None, a number of optimizer steps"),
        ({"rewind": "early"}, ValueError, "Received: rewind='early'"),
        ({"rewind": [np.ones(3)]}, ValueError, "do not fit model 'mlp'"),
        ({"train": lambda model: None}, TypeError, r"called as train\(model, callbacks\)"),
        ({"train": "adam"}, TypeError, r"called as train\(model, callbacks\)"),
        (
            {"train": Trainer(pass_on=False)},
            ValueError,
            "let .* pruned weights live again. Pass the callbacks",
        ),
        ({"criterion": "taylor"}, ValueError, "needs `data`"),
        ({"criterion": "magnitud"}, ValueError, "Did you mean 'magnitude'"),
        ({"pattern": "2:4", "select": "hidden"}, ValueError, "do not divide|fits the pattern"),
        ({"scope": {"hidden": 1.5}}, ValueError, r"must be in \[0, 1\)"),
        ({"select": "conv9"}, ValueError, "matches no layer"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    arguments = {"train": Trainer(), "rounds": 1, **arguments}
    with pytest.raises(error, match=message):
        find_ticket(mlp(), **arguments)


def test_wrong_models():
    with pytest.raises(TypeError, match=r"tfs\.load_model"):
        find_ticket("model.h5", Trainer())
