"""Text that wants to be more: markup, formulas, commands to a terminal, places elsewhere, code of templates."""

# The name of an element and of an attribute that no page of this project has.
ELEMENT, ATTRIBUTE = "hostile-element", "onhostile"

MARKUP = (
    f"<{ELEMENT}>", f"<{ELEMENT} {ATTRIBUTE}=1>", f"'\"><{ELEMENT}>", f"\" {ATTRIBUTE}=\"1", f"' {ATTRIBUTE}='1",
    f"</title><{ELEMENT}>", f"</script><{ELEMENT}>", f"</style><{ELEMENT}>", f"--><{ELEMENT}>", f"]]><{ELEMENT}>",
    f"&lt;{ELEMENT}&gt;<{ELEMENT}>", f"<img src=x {ATTRIBUTE}=1>", f"<svg {ATTRIBUTE}=1>", f"![x](y)<{ELEMENT}>",
    f"`<{ELEMENT}>`", f"[x](javascript:1)<{ELEMENT}>", f"\u2028<{ELEMENT}>", f"<{ELEMENT}\0>", f"\\<{ELEMENT}>",
)  # fmt: skip
FORMULAS = (
    '=HYPERLINK("http://hostile.invalid")', "+1+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@SUM(1+1)*cmd|'x'!A0",
    "\t=1+1", "\r=1+1", "\n=1+1", "\uff1d1+1", '","=1+1', '"\n=1+1', ";=1+1", "=1+1\x1b[2J", "%0A=1+1",
)  # fmt: skip
ESCAPES = (
    "\x1b[2J\x1b[H", "\x1b]0;hostile\x07", "\x1b[31mred", "\x9b31m", "\x07\x08\x08", "a\rnormal 1.000",
    "a\nnormal 1.000",    "\u202egnp.exe", "\u2066x\u2069", "\u200e", "a\x00b", "\x7f", "\x1b]8;;http://hostile.invalid\x07x",
    "\x1bP0;1|17/ab\x1b\\",
    "\x85", "\u2028forged", "\ud83d", "\x1b[6n", "\x0e\x0f",
)  # fmt: skip
TEMPLATES = (
    "{{7*7}}", "${7*7}", "#{7*7}", "{0.__class__}", "%s%s%s%n", "{path}", "$(touch ran)", "`touch ran`", "; touch ran",
    "| touch ran", "&& touch ran", "%(path)s", "__import__('os').system('touch ran')", "!!python/object:os.system",
)  # fmt: skip
PLACES = (
    "../canary/secret.txt", "../../canary/secret.png", "..\\..\\canary\\secret.txt", "/etc/passwd",
    "C:\\Windows\\win.ini",
    "file:///etc/passwd", "http://hostile.invalid/x", "s3://hostile/x", "\\\\hostile\\share",
    "~root/.profile", "/dev/zero",
    "/proc/self/environ", "....//....//etc/passwd", "%2e%2e%2fcanary", "CON", "-rf", "--help", "--out=x", ".", "..",
)  # fmt: skip
LONG = ("x" * 10_000, "\u0301" * 500, "\ufdfa" * 300, "\U0001f468\u200d" * 100)

TEXTS = MARKUP + FORMULAS + ESCAPES + TEMPLATES + PLACES + LONG


def as_name(text: str, ending: str) -> str | None:
    """Return a text as a file may be called on this system; None where it cannot be."""
    # A slash would lead into a folder, and hidden files are passed over.
    name = text.replace("/", "\u2215").replace("\0", "\u2400") + ending
    if name.startswith(".") or len(name.encode(errors="surrogatepass")) > 250:
        return None
    try:
        name.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return None
    return name
