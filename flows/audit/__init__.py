"""Releases compared with each other and with what their sources give."""
