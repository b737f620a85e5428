"""The report: sections of findings, tables and figures on one page."""
