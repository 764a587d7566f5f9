"""The list of mutants does not rot: what each changes is there once, and its tests exist."""

from __future__ import annotations

from collections import Counter

from mutants import ROOT, read_list


def test_every_mutant_can_be_tried() -> None:
    mutants = read_list()
    assert len(mutants) >= 80
    assert [text for mutant in mutants for text in mutant.mistakes(ROOT)] == []
    assert all(mutant.tests for mutant in mutants)
    assert [name for name, count in Counter(mutant.name for mutant in mutants).items() if count > 1] == []
