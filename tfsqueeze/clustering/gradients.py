"""Shared gradients: what an optimizer sees when shared values, not weights, are what it trains."""

from tfsqueeze.clustering.constraint import SharedValues


class SharedGradients:
    """Lets an optimizer see, for each weight, the gradient of the value it shares.

    Equal gradients make equal moments and updates, so that every optimizer trains the shared values just
    as it would train variables of their own.

    Args:
        optimizer: its `apply` is replaced on this object until `remove`.
        constraints: which weights share values.
        how: "sum", the gradient with respect to the shared value (Han et al., arXiv:1510.00149, 3.3), or
            "mean", which keeps the size of updates that a learning rate was chosen for.
    """

    def __init__(self, optimizer, constraints: list[SharedValues], how: str):
        self._optimizer, self._how = optimizer, how
        self._of = {id(constraint.variable): constraint for constraint in constraints}
        # An interrupted training may have left another in place.
        self.remove()
        self._apply = optimizer.apply
        optimizer.apply = self.apply

    def apply(self, grads, trainable_variables=None):
        """Stands in for the optimizer's own `apply`."""
        variables = (
            self._optimizer._trainable_variables if trainable_variables is None else trainable_variables
        )
        grads = [self._shared(g, v) for g, v in zip(grads, variables, strict=True)]
        return self._apply(grads, trainable_variables)

    def remove(self) -> None:
        """Gives the optimizer its own `apply` back."""
        self._optimizer.__dict__.pop("apply", None)

    def _shared(self, gradient, variable):
        constraint = self._of.get(id(variable))
        return gradient if constraint is None or gradient is None else constraint.gather(gradient, self._how)
