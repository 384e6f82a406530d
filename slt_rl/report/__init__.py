"""Reports: checks, figures, `summary.json`, and one self-contained page."""

from slt_rl.report.checks import Check as Check
from slt_rl.report.checks import all_held as all_held
from slt_rl.report.comparison_figures import comparison_figure as comparison_figure
from slt_rl.report.comparison_figures import jump_figure as jump_figure
from slt_rl.report.comparison_figures import occupancy_figure as occupancy_figure
from slt_rl.report.figure_files import FigureFile as FigureFile
from slt_rl.report.figure_files import save_figure as save_figure
from slt_rl.report.html import write_html as write_html
from slt_rl.report.overview_figures import class_strip_figure as class_strip_figure
from slt_rl.report.overview_figures import llc_by_class_figure as llc_by_class_figure
from slt_rl.report.overview_figures import training_figure as training_figure
from slt_rl.report.provenance import Provenance as Provenance
from slt_rl.report.provenance import collect_provenance as collect_provenance
from slt_rl.report.provenance import peak_memory_bytes as peak_memory_bytes
from slt_rl.report.records import Comparison as Comparison
from slt_rl.report.records import Jump as Jump
from slt_rl.report.records import Occupancy as Occupancy
from slt_rl.report.records import TrainingCurves as TrainingCurves
from slt_rl.report.run_figure import run_figure as run_figure
from slt_rl.report.summary import Report as Report
from slt_rl.report.summary import Section as Section
from slt_rl.report.summary import Table as Table
from slt_rl.report.summary import write_summary as write_summary

__all__ = [
    "Check",
    "Comparison",
    "FigureFile",
    "Jump",
    "Occupancy",
    "Provenance",
    "Report",
    "Section",
    "Table",
    "TrainingCurves",
    "all_held",
    "class_strip_figure",
    "collect_provenance",
    "comparison_figure",
    "jump_figure",
    "llc_by_class_figure",
    "occupancy_figure",
    "peak_memory_bytes",
    "run_figure",
    "save_figure",
    "training_figure",
    "write_html",
    "write_summary",
]
