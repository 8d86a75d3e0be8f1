"""Tables of reports and comparisons, for the terminal and for Markdown."""

from dataclasses import dataclass, field

from tfsqueeze.reporting.facts import LayerFacts

UNKNOWN = "-"
LAYERS_SHOWN = 30
NOTED_NAMES = 5


@dataclass(frozen=True)
class Table:
    """A table with a title, whose first column is text and whose others are right-aligned.

    Attributes:
        title: what it shows.
        columns: headings.
        rows: cells as text; a line break in a cell parts a value from its remark.
        notes: sentences below the table.
        text_columns: how many columns from the left hold text rather than numbers.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    text_columns: int = 1

    def to_rich(self):
        """The table for a `rich` console."""
        from rich import box
        from rich.console import Group
        from rich.padding import Padding
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            title=Text(self.title),
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE,
            pad_edge=False,
            collapse_padding=True,
        )
        for index, column in enumerate(self.columns):
            is_text = index < self.text_columns
            table.add_column(
                Text(column), justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text
            )
        for row in self.rows:
            table.add_row(*map(Text, row))
        notes = [Padding(Text(note, style="dim"), (0, 0, 0, 2)) for note in self.notes]
        return Group(table, *notes, *([""] if notes else []))

    def to_markdown(self) -> str:
        """The table in GitHub's Markdown."""
        alignment = ["---" if index < self.text_columns else "---:" for index in range(len(self.columns))]
        lines = [_markdown_row(row) for row in (self.columns, alignment, *self.rows)]
        notes = [f"\n{_escaped(note)}" for note in self.notes]
        return "\n".join([f"**{_escaped(self.title)}**", "", *lines, *notes])


def report_tables(report) -> list[Table]:
    """The tables of one report: its figures, its operators, its layers."""
    tables = [Table(f"{report.name} ({report.kind})", ["", "value"], _figures(report), _notes(report), 2)]
    if report.operators:
        rows = [[o.name, o.dtype, o.weights or o.dtype, str(o.count)] for o in report.operators]
        tables.append(
            Table("Operators", ["operator", "computes in", "weights", "count"], rows, text_columns=3)
        )
    if report.layers:
        tables.append(_layer_table(report.layers))
    return tables


def comparison_tables(comparison) -> list[Table]:
    """One row per model, each value with how many times smaller (faster) it is than the first model's."""
    reports = comparison.reports
    scores = list(dict.fromkeys(name for report in reports.values() for name in report.metrics))
    columns = ["model", "file bytes", "gzipped", "non-zero", "MACs", "memory", "ms (p90)", *scores]
    rows = [_comparison_row(comparison, name, scores) for name in reports]
    return [Table("Comparison", columns, rows, _comparison_notes(comparison))]


def counted(number: float | None) -> str:
    """A large count in the usual short form: 569 M, 3.86 G."""
    if number is None:
        return UNKNOWN
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 999.5 * size else f"{number / size:.0f} {unit}"
    return str(number)


def _figures(report) -> list[list[str]]:
    zeros = f" ({report.sparsity:.1%} zeros)" if report.parameters else ""
    rows = [
        ["Parameters", f"{report.parameters:,}"],
        ["Non-zero", f"{report.nonzero:,}{zeros}"],
        ["MACs per example", f"{counted(report.macs)}" + (f" ({report.macs:,})" if report.macs else "")],
        ["Weights", _bytes(report.weight_bytes)],
        ["File", f"{_bytes(report.file_bytes)}" + (f", {report.size_of}" if report.file_bytes else "")],
        ["File, gzipped", _bytes(report.gzip_bytes)],
        ["Activation memory", _bytes(report.activation_bytes)],
        ["Latency", _latency(report.latency)],
    ]
    rows += [[name, f"{score:.4f} on {report.examples:,} examples"] for name, score in report.metrics.items()]
    return rows


def _notes(report) -> list[str]:
    notes = []
    if report.select_tf_ops:
        notes.append(f"Needs the TensorFlow runtime (select TF operators): {_listed(report.select_tf_ops)}.")
    if report.float_ops:
        notes.append(f"Float operators in an integer file: {_listed(report.float_ops)}.")
    return [*notes, *report.notes]


def _layer_table(layers: list[LayerFacts]) -> Table:
    largest = sorted(layers, key=lambda layer: -max(layer.parameters, layer.macs or 0))[:LAYERS_SHOWN]
    shown = [layer for layer in layers if any(layer is one for one in largest)]
    hidden = len(layers) - len(shown)
    notes = [f"The {len(shown)} largest layers; `layers` has {hidden} more."] if hidden else []
    rows = [
        [
            _shortened(layer.name),
            layer.kind,
            layer.dtype or UNKNOWN,
            f"{layer.parameters:,}",
            UNKNOWN if layer.sparsity is None else f"{layer.sparsity:.1%}",
            counted(layer.macs),
        ]
        for layer in shown
    ]
    return Table(
        "Layers", ["layer", "kind", "type", "parameters", "zeros", "MACs"], rows, notes, text_columns=3
    )


def _comparison_row(comparison, name, scores) -> list[str]:
    report = comparison[name]

    def cell(quantity, text):
        ratio = None if report is comparison.first else comparison.ratio(name, quantity)
        return text if ratio is None else f"{text}\n{ratio:.2f}x"

    latency = report.latency
    timing = UNKNOWN if latency is None else f"{latency.median_ms:.3g} ({latency.p90_ms:.3g})"
    return [
        name,
        cell("file_bytes", _number(report.file_bytes)),
        cell("gzip_bytes", _number(report.gzip_bytes)),
        cell("nonzero", _number(report.nonzero)),
        cell("macs", counted(report.macs)),
        cell("activation_bytes", _number(report.activation_bytes)),
        cell("latency", timing),
        *(_score(comparison, report, score) for score in scores),
    ]


def _score(comparison, report, metric) -> str:
    value, reference = report.metrics.get(metric), comparison.first.metrics.get(metric)
    if value is None:
        return UNKNOWN
    change = "" if report is comparison.first or reference is None else f"\n{value - reference:+.4f}"
    return f"{value:.4f}{change}"


def _comparison_notes(comparison) -> list[str]:
    reports = comparison.reports
    notes = (
        [f"Nx: how many times smaller or faster than {comparison.first.name!r}."] if len(reports) > 1 else []
    )
    notes += [
        f"File of {name}: {report.size_of}."
        for name, report in reports.items()
        if report.kind == "Keras model" and report.file_bytes is not None
    ]
    conditions = {_conditions(r.latency): None for r in reports.values() if r.latency is not None}
    notes += [f"Latency: {condition}; median and (p90), in turns." for condition in conditions]
    examples = {report.examples for report in reports.values() if report.examples}
    notes += [f"Scores: on {count:,} examples." for count in sorted(examples)]
    return notes + [f"{name}: {note}" for name, report in reports.items() for note in _notes(report)]


def _latency(latency) -> str:
    if latency is None:
        return UNKNOWN
    return (
        f"{latency.median_ms:.3g} ms median, {latency.p90_ms:.3g} p90, {latency.min_ms:.3g} min "
        f"({_conditions(latency)})"
    )


def _conditions(latency) -> str:
    threads = "" if latency.threads is None else f", {latency.threads} thread{'s' * (latency.threads > 1)}"
    return f"{latency.runs} runs of batch {latency.batch_size}{threads}, delegate {latency.delegate}"


def _bytes(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,} bytes"


def _number(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,}"


def _listed(names) -> str:
    more = len(names) - NOTED_NAMES
    return ", ".join(names[:NOTED_NAMES]) + (f" and {more} more" if more > 0 else "")


def _shortened(name: str, width: int = 36) -> str:
    """Tensor names of files are long paths whose end tells most."""
    return name if len(name) <= width else "…" + name[1 - width :]


def _markdown_row(cells) -> str:
    return "| " + " | ".join(_escaped(cell.replace("\n", " · ")) for cell in cells) + " |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
