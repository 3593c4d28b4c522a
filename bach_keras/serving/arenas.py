"""How a server's memory is shared among its threads."""

import ctypes

# glibc's name for how many arenas there may be, from malloc.h, and how many a server has.
_M_ARENA_MAX, ARENAS = -8, 2


def share_arenas() -> None:
    """Let all threads take memory from two arenas, before there are threads.

    Otherwise glibc gives up to eight a processor, and each keeps what one large request once took.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries have none, or ignore it
    if mallopt:
        mallopt(_M_ARENA_MAX, ARENAS)
