"""Every schedule, so that `tfs.schedules.X` reads as `keras.optimizers.schedules.X` does."""

from tfsqueeze.core.schedules import Constant, Cosine, Exponential, Polynomial, Schedule, Steps

__all__ = ["Constant", "Cosine", "Exponential", "Polynomial", "Schedule", "Steps"]
