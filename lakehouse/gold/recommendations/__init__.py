"""Itemsets, association rules, and what they recommend."""
