"""Builds and launches. A Space runs this file as it is; `python app.py --share` gives a public link."""

import sys

from xaihub.ui.site import build, serve

demo = build()

if __name__ == "__main__":
    serve(demo, share="--share" in sys.argv[1:])
