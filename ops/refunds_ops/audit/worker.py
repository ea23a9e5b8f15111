"""A worker process: runs pickled functions from standard input, and writes what they return.

Imports little, since memory and start are paid once for each process. The functions' modules are
imported when they are unpickled.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, which ends this.
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Whatever prints must not write into the results.
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            result = (True, function(*arguments))
        except Exception:
            result = (False, traceback.format_exc())
        pickle.dump(result, results, pickle.HIGHEST_PROTOCOL)
        results.flush()


if __name__ == "__main__":
    main()
