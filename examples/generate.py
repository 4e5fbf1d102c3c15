"""Make a talking character from a picture and a sentence: a film as an MP4 file.

python examples/generate.py --image face.png --text "Hello there." --size 720 -o out.mp4

The same as `mutual-forcing generate`; read mutual_forcing/make_film.py for how it is done.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, uninstalled

from mutual_forcing.make_film import main

if __name__ == "__main__":
    sys.exit(main())
