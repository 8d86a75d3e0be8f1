"""What a verb did to a model, kept with the model it returned."""

from dataclasses import dataclass

import keras

from tfsqueeze.core.trained import trained_model


@dataclass(frozen=True)
class Explanation:
    """One verb's account of its work.

    Attributes:
        verb: the function that returned the model.
        done: facts per layer or kernel worked on, by path.
        skipped: reason per layer left as it was, by path.
    """

    verb: str
    done: dict[str, dict]
    skipped: dict[str, str]

    def __str__(self) -> str:
        facts = [(path, ", ".join(f"{k} {v}" for k, v in row.items())) for path, row in self.done.items()]
        skips = [(path, f"skipped: {reason}") for path, reason in self.skipped.items()]
        width = max((len(path) for path, _ in [*facts, *skips]), default=0)
        return "\n".join(
            [f"{self.verb}:", *(f"  {path:<{width}}  {text}" for path, text in [*facts, *skips])]
        )


def record(model: keras.Model, verb: str, done: dict, skipped: dict) -> keras.Model:
    """Attaches an explanation to `model` and returns it."""
    object.__setattr__(model, "_tfsqueeze_explanation", Explanation(verb, done, skipped))
    return model


def explain(model: keras.Model) -> Explanation:
    """Tells what was done per layer, and what was skipped and why, in the model a verb returned.

    Args:
        model: a model returned by a tfsqueeze verb in this program (explanations are not saved in files),
            or a distiller that trains one.

    Raises:
        ValueError: if no verb returned this model.

    Example:
        >>> print(tfs.explain(tfs.prune(model, 0.5)))
    """
    found = getattr(trained_model(model), "_tfsqueeze_explanation", None)
    if found is None:
        raise ValueError(
            f"Nothing is known of model {getattr(model, 'name', model)!r}: no tfsqueeze verb of this "
            "program returned it."
        )
    return found
