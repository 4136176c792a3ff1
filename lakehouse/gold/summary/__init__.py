"""Totals and tops: products, customers, categories."""
