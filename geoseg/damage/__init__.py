"""Grades of damage of buildings, one by one."""
