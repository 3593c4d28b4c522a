"""What pip asks to build a package of this project: it says in one sentence why there is none."""

import sys

sys.exit(
    "This project is not a package: its folders datasets/ and callbacks/ would hide packages of these names. It runs "
    "from its own folder: `make demo`, or `pip install -r requirements.txt` and then `python cli.py --help`."
)
