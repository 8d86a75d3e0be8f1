"""`python -m tfsqueeze`: the same as the `tfsqueeze` command."""

from tfsqueeze.cli import main

if __name__ == "__main__":
    main()
