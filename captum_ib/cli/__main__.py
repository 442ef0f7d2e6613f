"""``python -m captum_ib.cli``."""

import sys

from captum_ib.cli import main

sys.exit(main())
