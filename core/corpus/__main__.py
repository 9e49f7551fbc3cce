"""`python -m core.corpus`: builds the embedded speech.

The work is `build`'s, since its worker processes cannot import a module that is called `__main__`.
"""

import sys

from core.corpus.build import main

if __name__ == "__main__":
    sys.exit(main())
