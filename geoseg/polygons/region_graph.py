"""Regions and their shared borders, as a graph in which the smallest region merges into a neighbour."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field

__all__ = ["Graph"]


@dataclass(slots=True)
class Graph:
    """Regions and their shared borders. Regions are named by their ids."""

    value: dict[int, int] = field(default_factory=dict)
    """Class of each region."""
    area: dict[int, float] = field(default_factory=dict)
    """Area of each region, in square metres (pixels without a CRS)."""
    border: dict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    """Length of the border of each pair, both ways."""

    def add_region(self, region: int, value: int, area: float) -> None:
        """Add a region."""
        self.value[region] = value
        self.area[region] = area

    def add_border(self, a: int, b: int, length: float) -> None:
        """Add to the shared border of two regions."""
        self.border[a][b] = self.border[b][a] = self.border[a].get(b, 0.0) + length

    def resolve(self, minimum: float) -> dict[int, int]:
        """Merge until no region with a neighbour is smaller than the minimum.

        Returns the class of each region that changed. The graph is used up.
        """
        owner = {region: region for region in self.value}
        members: dict[int, list[int]] = {region: [region] for region in self.value}
        original = dict(self.value)
        large = {region for region, area in self.area.items() if area >= minimum}
        queue = [(area, region) for region, area in self.area.items() if area < minimum]
        heapq.heapify(queue)
        while queue:
            area, region = heapq.heappop(queue)
            if owner[region] != region or self.area[region] != area:
                continue
            neighbours = self.border[region]
            if not neighbours:
                continue
            # Of equally long borders, the region with the smaller id takes over.
            winner = min(neighbours, key=lambda other: (-neighbours[other], other))
            self._merge(region, winner, owner, members)
            # Regions of its new class that it touched are now one with it. Large ones are not made one with each other:
            # what happens in one cluster would then depend on others.
            same = sorted(other for other in self.border[winner] if self.value[other] == self.value[winner])
            for other in same:
                if other not in large:
                    self._merge(other, winner, owner, members)
            attractors = [other for other in same if other in large]
            if attractors and winner not in large:
                self._merge(winner, attractors[0], owner, members)
            elif self.area[winner] < minimum:
                heapq.heappush(queue, (self.area[winner], winner))
        return {
            region: self.value[root]
            for root, regions in members.items()
            for region in regions
            if self.value[root] != original[region]
        }

    def _merge(self, region: int, winner: int, owner: dict[int, int], members: dict[int, list[int]]) -> None:
        for other, length in self.border.pop(region).items():
            del self.border[other][region]
            if other != winner:
                self.add_border(winner, other, length)
        self.area[winner] += self.area[region]
        owner[region] = winner
        members[winner] += members.pop(region)
