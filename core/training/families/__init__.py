"""The families of speech recognisers: a module for each, which `core.plan.families` names.

What differs between families is decided in this folder and nowhere else; `base.py` is all that the rest knows of them.
"""

from __future__ import annotations

from importlib import import_module

from core.plan.families import FamilyFacts
from core.training.families.base import SpeechModel


def family_class(facts: FamilyFacts) -> type[SpeechModel]:
    """The class of a family: `FAMILY` of its module."""
    found: type[SpeechModel] = import_module(f"{__name__}.{facts.name}").FAMILY
    return found
