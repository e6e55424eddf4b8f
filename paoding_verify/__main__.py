"""`python -m paoding_verify` is the command line."""

import sys

from paoding_verify.cli.main import main

sys.exit(main())
