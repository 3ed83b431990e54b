"""``python -m bitalloc``: the command."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # ``-m`` puts the current folder first on the path; a project may have packages there with the names of ours.
    if not sys.flags.safe_path and Path(sys.path[0]).resolve() != Path(__file__).resolve().parents[1]:
        del sys.path[0]

    from api.cli import main

    main()
