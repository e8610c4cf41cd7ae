"""A comparison of runs as one HTML page that loads nothing from anywhere.

    page.html     The page without its content: style sheet, and the script that draws.
    document.py   Fills it: tables, notes, and plotly.js.
    legend.py     The legend, whose boxes turn curves on and off.
    figures.py    The learning curves and heat maps, as figures of plotly.
    grids.py      Which groups make a heat map.

Names of groups and runs come from the runs, so they are escaped: as HTML in the page, as what
plotly takes for HTML in the figures, and as JSON in the script.
"""

from vasso_jax.runs.page.document import as_html

__all__ = ["as_html"]
