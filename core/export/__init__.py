"""What was judged, in the form in which it is shipped, and whether it still says the same there.

A module for each form (`core.plan.exports`): `hf`, `lora`, `ct2`. `serve` is the process that decodes the evaluation
sets in a form's own runtime.
"""
