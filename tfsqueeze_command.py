"""Entry of the `tfsqueeze` command.

It lies beside the package and loads the command line without importing the package, whose import
brings in TensorFlow: `tfsqueeze --help` then answers at once, and the command can silence TensorFlow
before it is imported.
"""

import importlib.util
import signal
import sys
from pathlib import Path


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    package = Path(importlib.util.find_spec("tfsqueeze").origin).parent
    folder = package / "cli"
    spec = importlib.util.spec_from_file_location(
        "tfsqueeze.cli", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    try:
        module.main()
    finally:
        # The work is done; that TensorFlow takes a moment to end must not turn Ctrl-C into a crash.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
