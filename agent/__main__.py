"""`python -m agent`: the same as `wanggan agent`."""

import sys

from agent.commands import main

sys.exit(main(sys.argv[1:]))
