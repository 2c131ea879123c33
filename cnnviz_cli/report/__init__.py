"""One offline page of one or several runs."""

from cnnviz_cli.report.write import PAGE, ReportOptions, WrittenReport, write_report

__all__ = ["PAGE", "ReportOptions", "WrittenReport", "write_report"]
