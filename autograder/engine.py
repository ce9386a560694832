"""The papermill engine `fork`.

Papermill loads it through an entry point while its own module is still being imported, so it stands alone here.
"""

from __future__ import annotations

from typing import Any

from nbformat import NotebookNode
from papermill.engines import Engine


class ForkEngine(Engine):
    """The papermill engine `fork`: hands each code cell to `run`, which runs it in a room."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, run: Any = None, **_: Any
    ) -> NotebookNode:
        for index, cell in enumerate(nb_man.nb.cells):
            nb_man.cell_start(cell, index)
            if cell.cell_type == "code" and not run.cell(cell, index):
                nb_man.cell_exception(cell, index)
            nb_man.cell_complete(cell, index)
        # Papermill adds cells that announce an error afterwards; the list kept here stays as it was run.
        run.notebook = NotebookNode(nb_man.nb, cells=list(nb_man.nb.cells))
        return nb_man.nb
