"""Graded results of others as grades of ours: evaluation tools, tracers, tables."""

from isocost.policy.grades.read import Choice, Grade, Grades, read_grades

__all__ = ["Choice", "Grade", "Grades", "read_grades"]
