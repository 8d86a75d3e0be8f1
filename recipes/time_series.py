"""A forecast with a recurrent network: fewer units, taught by all of them, in 8-bit weights.

An LSTM reads a day of an hourly series and tells the next six hours. Units are removed with all their gates;
the narrow network learns from the labels and from the wide one. The dynamic-range file keeps the loop over
time. (Hardware that has integers only needs `unroll=True` in the layer and `quantize: int8` in the steps: a
larger file, as every step in time is spelled out.)

\b
Data: an .npy file `series.npy` with one long series in --data; without, an hourly load with a daily and a
weekly rhythm, weather that drifts, and noise.

\b
Examples:
  python recipes/time_series.py -o forecast
  tfsqueeze run recipes/time_series.yaml --model forecast/model.keras --train forecast/train.npz \\
      --validation forecast/validation.npz -o again
"""

import click
import keras
import numpy as np
import workbench
from keras import layers

PAST, FUTURE = 24, 6


@click.command(help=__doc__)
@workbench.options("time-series")
def main(data, output, epochs, limit):
    source = workbench.real(data, "series.npy")
    series = load() if source is None else np.load(source).astype("float32").ravel()
    x, y = windows(series, limit or 3000)
    # The last fifth in time is for validation: shuffled windows overlap, and would tell the answers.
    kept = round(0.8 * len(x))
    training, validation = (x[:kept], y[:kept]), (x[kept + PAST :], y[kept + PAST :])
    model = workbench.begin(output, network, training, validation, epochs=epochs or 12)
    return workbench.run_steps(__file__, model, training, validation, output, epochs)


def load(hours: int = 24 * 7 * 20) -> np.ndarray:
    """An hourly load: a day's rhythm, weaker on weekends, drifting weather, noise."""
    rng, hour = np.random.default_rng(0), np.arange(hours)
    day = np.sin(2 * np.pi * (hour % 24 - 6) / 24) + 0.4 * np.sin(4 * np.pi * (hour % 24) / 24)
    weekend = np.where(hour // 24 % 7 >= 5, 0.5, 1.0)
    weather = np.convolve(rng.normal(size=hours), np.ones(48) / 48**0.5, "same")
    return (day * weekend + 0.3 * weather + rng.normal(0, 0.1, hours)).astype("float32")


def windows(series, limit: int):
    """Pairs of past and future, the latest `limit` ones, scaled to mean 0 and deviation 1."""
    series = (series - series.mean()) / series.std()
    starts = np.arange(len(series) - PAST - FUTURE)[-limit:]
    x = series[starts[:, None] + np.arange(PAST)][..., None]
    return x, series[starts[:, None] + PAST + np.arange(FUTURE)]


def network() -> keras.Model:
    """One LSTM and two dense layers."""
    model = keras.Sequential(
        [
            keras.Input((PAST, 1), name="past"),
            layers.LSTM(48, name="lstm"),
            layers.Dense(24, activation="relu", name="hidden"),
            layers.Dense(FUTURE, name="future"),
        ]
    )
    model.compile(keras.optimizers.Adam(5e-3), "mse", metrics=["mae"])
    return model


if __name__ == "__main__":
    main()
