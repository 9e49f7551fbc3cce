"""The process of `core.export.serve`; its one argument is the request's file."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from core.console import err
from core.errors import UserError, exit_code_for, forbidden, is_disk_full
from core.system.process import Interrupts, end_with_parent


def main(argv: list[str]) -> int:
    """Returns the exit code."""
    end_with_parent()
    with Interrupts() as interrupts:
        try:
            from core.export.serve import request_in, serve

            serve(request_in(Path(argv[0])))
            return 0
        except (Exception, KeyboardInterrupt) as raised:
            error: BaseException = KeyboardInterrupt() if interrupts.count else forbidden(raised) or raised
            if isinstance(error, UserError):
                err(f"error: {error}", multiline=True)
            elif is_disk_full(error):
                err(f"error: the disk is full ({error}); free some space (or set TMPDIR) and run again")
            elif not isinstance(error, KeyboardInterrupt):
                err("".join(traceback.format_exception(error)).rstrip(), multiline=True)
            return int(exit_code_for(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
