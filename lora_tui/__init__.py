"""The faces of lora-tui: the dashboard and the headless gate.

They read run folders and submit plans; they never train.
"""

from lora_tui.entry import check

check()
