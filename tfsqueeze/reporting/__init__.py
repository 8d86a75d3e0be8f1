"""Reports and comparisons: parameters, MACs, sizes, operators, memory, latency, metrics."""

from tfsqueeze.reporting.compare import Comparison, compare
from tfsqueeze.reporting.report import Report, report

__all__ = ["Comparison", "Report", "compare", "report"]
