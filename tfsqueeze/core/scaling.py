"""A linear scaling of inputs written as text, such as `1/255` or `(x-83)*0.58`, read without `eval`."""

import ast
import math
from dataclasses import dataclass

import numpy as np

MAXIMUM_LENGTH = 80


@dataclass(frozen=True)
class Scale:
    """x -> factor * x + offset."""

    factor: float = 1.0
    offset: float = 0.0

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Scales to float32."""
        return np.asarray(values, np.float32) * np.float32(self.factor) + np.float32(self.offset)


@dataclass(frozen=True)
class _Linear:
    """factor * x + constant, the value of every part of an expression."""

    factor: float
    constant: float


def parse_scale(text: str) -> Scale:
    """Reads a scaling: a factor with an optional offset, or a linear expression of `x`.

    Args:
        text: for example "1/255", "1/127.5-1" (which means x/127.5 - 1), "x/127.5 - 1",
            "(x - 83) * 0.5847". Numbers, + - * /, brackets and `x` are known.

    Raises:
        ValueError: if it is anything else, is not linear in `x`, or divides by zero.

    Example:
        >>> parse_scale("1/127.5-1")(np.array([0, 255]))
        array([-1.,  1.], dtype=float32)
    """
    try:
        if len(text) > MAXIMUM_LENGTH:
            raise ValueError(f"longer than {MAXIMUM_LENGTH} characters")
        tree = ast.parse(text.strip(), mode="eval").body
        has_variable = any(isinstance(node, ast.Name) for node in ast.walk(tree))
        value = _evaluate(tree) if has_variable else _factor_and_offset(tree)
        if value.factor == 0 or not math.isfinite(value.factor) or not math.isfinite(value.constant):
            raise ValueError("all inputs would become the same value")
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        raise ValueError(
            "A scale must be a factor with an optional offset, or linear in x. "
            f"Received: {text[:MAXIMUM_LENGTH]!r} ({error}). "
            "Examples: 1/255, 1/127.5-1, (x-83)*0.5847."
        ) from error
    return Scale(value.factor, value.constant)


def _factor_and_offset(tree) -> _Linear:
    """Without `x`, the last sum parts the factor from the offset: "1/127.5-1" is x/127.5 - 1."""
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, (ast.Add, ast.Sub)):
        factor, offset = _evaluate(tree.left).constant, _evaluate(tree.right).constant
        return _Linear(factor, -offset if isinstance(tree.op, ast.Sub) else offset)
    return _Linear(_evaluate(tree).constant, 0.0)


def _evaluate(node) -> _Linear:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _Linear(0.0, float(node.value))
    if isinstance(node, ast.Name) and node.id == "x":
        return _Linear(1.0, 0.0)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
        value = _evaluate(node.operand)
        return _Linear(sign * value.factor, sign * value.constant)
    if isinstance(node, ast.BinOp):
        return _combine(node.op, _evaluate(node.left), _evaluate(node.right))
    raise ValueError("only numbers, x, + - * / and brackets are known")


def _combine(operation, left: _Linear, right: _Linear) -> _Linear:
    if isinstance(operation, ast.Add):
        return _Linear(left.factor + right.factor, left.constant + right.constant)
    if isinstance(operation, ast.Sub):
        return _Linear(left.factor - right.factor, left.constant - right.constant)
    if isinstance(operation, ast.Mult) and 0 in (left.factor, right.factor):
        constant, other = (left, right) if left.factor == 0 else (right, left)
        return _Linear(constant.constant * other.factor, constant.constant * other.constant)
    if isinstance(operation, ast.Div) and right.factor == 0:
        return _Linear(left.factor / right.constant, left.constant / right.constant)
    raise ValueError("it is not linear in x")
