"""python -m posepost"""

import sys

from posepost.cli import main

sys.exit(main())
