"""What ``run.json`` says of a map of values, and what is to be minded of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from geoseg.codes import MAX_VALUE, NO_VALUE, VALUE_NOT_ANALYSED
from geoseg.digits import figure
from geoseg.documents import Json
from geoseg.models.card_values import Quantity
from pipeline.infer.receipt import Receipt
from pipeline.infer.value_sums import summed, value_figures

__all__ = ["clipped_notes", "value_document"]

DIGITS = 12
"""Decimals of figures: what 64 bits leave of sums is not told."""


def value_document(quantity: Quantity, receipts: Collection[Receipt]) -> dict[str, Json]:
    """What is regressed, how it is stored, and its figures over all pixels that have a value."""
    total = summed(receipt.values for receipt in receipts)
    figures = value_figures(quantity, total)
    return {
        **quantity.model_dump(mode="json", exclude={"slope", "intercept"}),
        "codes": [0, MAX_VALUE],
        "not_analysed": VALUE_NOT_ANALYSED,
        "no_data": NO_VALUE,
        "pixels": total.get("pixels", 0),
        **{key: figure(figures[key], DIGITS) if figures else None for key in ("least", "most", "mean", "deviation")},
        "clipped_below": total.get("below", 0),
        "clipped_above": total.get("above", 0),
    }


def clipped_notes(quantity: Quantity, total: Mapping[str, int]) -> list[str]:
    """What is to be said of values that codes don't reach."""
    least, most = quantity.limits
    return [
        f"{total[key]:,} pixels of {total['pixels']:,} have a {quantity.name} {where} {limit:g}{quantity.suffix} and are stored "
        f"as that: it is the {end} value that values.tif holds, by the scale of the model's card"
        for key, where, limit, end in (("below", "below", least, "least"), ("above", "above", most, "largest"))
        if total.get(key)
    ]
