"""Estimators: paired samples of child and parent groups to the information between them, one file
each.
"""
