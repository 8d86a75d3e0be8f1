"""Several processes train as one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import tfsqueeze as tfs
from tests.multi_worker_process import ALL, examples, network


def free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """Logs, weights and predictions are those of one process; zeros are exact under a distiller."""
    ports = free_ports(2)
    command = [sys.executable, "-m", "tests.multi_worker_process", str(tmp_path)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    processes = [
        subprocess.Popen(
            [*command, str(index), *ports],
            cwd=Path(__file__).parents[1],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=540)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:
            process.kill()
    first, second = (dict(np.load(tmp_path / f"{index}.npz")) for index in range(2))

    np.testing.assert_array_equal(first["losses"], second["losses"])
    np.testing.assert_array_equal(first["plain"], second["plain"])
    np.testing.assert_array_equal(first["student"], second["student"])
    np.testing.assert_allclose(first["zeros"], [0.5, 0.5], atol=0.01)

    keras.utils.set_random_seed(0)
    alone = network(4)
    alone.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    x, y = examples()
    logs = alone.fit(x, y, batch_size=ALL, epochs=2, validation_data=(x, y), verbose=0).history
    np.testing.assert_allclose(first["losses"], [*logs["loss"], *logs["val_loss"]], rtol=1e-4)
    weights = np.concatenate([weight.ravel() for weight in alone.get_weights()])
    np.testing.assert_allclose(first["plain"], weights, atol=1e-5)
    np.testing.assert_allclose(first["predicted"], alone.predict(x, verbose=0), atol=1e-5)


def test_other_trainings_go_as_always_and_keras_is_left_as_it_was(mirrored):
    from keras.src.backend.tensorflow import trainer

    reduce, x_and_y = trainer.reduce_per_replica, examples()
    histories = []
    for context in (keras.name_scope("plain"), tfs.multi_worker_fit()):
        keras.utils.set_random_seed(0)
        with mirrored.scope():
            model = network(4)
            model.compile("sgd", "mse", jit_compile=False)
        with context:
            histories.append(model.fit(*x_and_y, epochs=2, verbose=0).history)
    assert histories[0] == histories[1]
    with pytest.raises(ZeroDivisionError), tfs.multi_worker_fit():
        raise ZeroDivisionError
    assert trainer.reduce_per_replica is reduce


def test_a_version_that_is_made_otherwise_is_refused(monkeypatch):
    from keras.src.backend.tensorflow import trainer

    monkeypatch.delattr(trainer, "reduce_per_replica")
    with pytest.raises(RuntimeError, match=f"Keras {keras.__version__} is made otherwise"):
        tfs.multi_worker_fit().__enter__()


def test_a_version_that_was_not_tested_is_told(monkeypatch):
    monkeypatch.setattr(keras, "__version__", "3.99.0")
    with pytest.warns(UserWarning, match="not with 3.99.0"), tfs.multi_worker_fit():
        pass
