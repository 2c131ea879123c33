"""One offline page of one or several runs."""

from cnnviz_cli.report.page import shown_manifests
from cnnviz_cli.report.write import ReportOptions, WrittenReport, write_report

__all__ = ["ReportOptions", "WrittenReport", "shown_manifests", "write_report"]
