"""One offline page of one or several runs."""

from cnnviz_cli.report.write import ReportOptions, WrittenReport, write_report

__all__ = ["ReportOptions", "WrittenReport", "write_report"]
