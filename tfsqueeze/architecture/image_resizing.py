"""A layer that resizes images in front of a network."""

import keras


@keras.saving.register_keras_serializable(package="tfsqueeze")
class ImageResizing(keras.layers.Resizing):
    """Keras' layer, which resizes bilinearly, without an argument `training`.

    Keras' own takes `training=True` where nothing is said of it, and hands that on to all layers behind it:
    `model(x)` would then normalise by the batch and move the statistics.

    Args:
        height, width: of the images it gives.
        **options: those of `keras.layers.Resizing`.

    Example:
        >>> smaller = ImageResizing(112, 112)(images)
    """

    def call(self, data):
        return super().call(data, training=False)
