"""A process that decodes, but hangs or crashes on files of such names, as a decoder in C may."""

import os
import signal
import sys
import time

from bach_keras.serving.bulk import decoder


def look(name, *others):
    stem = os.path.basename(name)  # folders of tests have names as well
    if "hangs" in stem:
        time.sleep(600)
    if "crashes" in stem:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "exits" in stem:
        os._exit(7)
    return real(name, *others)


real, decoder.look = decoder.look, look

if __name__ == "__main__":
    decoder.main(*map(int, sys.argv[1:]))
