"""Lets mkdocstrings know the examples of a docstring as code: it knows them by the heading `Examples:`."""

import griffe


class Examples(griffe.Extension):
    """Renames the section `Example:` of every docstring."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
