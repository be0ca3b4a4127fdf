"""``python -m wanggan`` is the `wanggan` command."""

import sys

from wanggan.main import main

sys.exit(main())
