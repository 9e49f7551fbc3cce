"""Near texts: what was reworded is, digits in another order are not."""

from __future__ import annotations

import pytest

from core.audit.leakage import near_texts

OTHERS = [
    "the spindle of the lathe needs a new bearing",
    "anneal the caliper and quench the mandrel",
    "broach the flange with a tailstock reamer",
    "solder the rivet under the manifold gasket",
]


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("eight eight two zero", "two zero four"),
        ("eight eight two zero", "two zero eight eight"),
        ("one two three four five six seven", "seven six five four three two one"),
        ("4 9 1 7 7 2", "9 4 7 1 2 7"),
        ("oh one five three", "five three oh one"),
    ],
)
@pytest.mark.parametrize("others", [[], OTHERS])
def test_digits_in_another_order_are_another_text(one: str, another: str, others: list[str]) -> None:
    assert list(near_texts([one, another, *others])) == []


def test_a_reworded_sentence_is_near_also_with_digits_in_it() -> None:
    text = "torque the four coolant bolts of the vernier chuck"
    other = "the vernier chuck's four coolant bolts please torque"
    [near] = near_texts([text, other, *OTHERS])
    assert (near.first, near.second) == (0, 1)
