"""The screens, their panels and dialogs, and what their keys do."""
