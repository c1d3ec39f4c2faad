"""`python -m biomass_pl`."""

import sys

from biomass_pl.cli import main

sys.exit(main())
