"""Which HTTP requests the development server refuses before it reads their body, and with which status."""

from http import HTTPMethod, HTTPStatus

# The most bytes of a request's head, and of the target in it.
MAX_HEAD = 16 * 2**10
MAX_TARGET = 8 * 2**10

METHODS = ("GET", "HEAD", "POST")


class BadRequestError(Exception):
    """A request that is not passed on; the connection ends after the answer, as what follows may not be a request."""

    def __init__(self, status: HTTPStatus, message: str):
        super().__init__(message)
        self.status = status


def check_head(request, max_body: int) -> None:
    """Refuse a request that cannot be answered."""
    headers = dict(request.headers)
    length, is_chunked = headers.get(b"content-length"), b"transfer-encoding" in headers
    if not request.http_version.startswith(b"1."):
        raise BadRequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "The server speaks version 1.1 of HTTP.")
    if is_chunked and (length is not None or request.http_version < b"1.1"):
        # Another reader may see another length, so a request could be hidden in the body of this one.
        message = "A request has a Content-Length or, from version 1.1 of HTTP on, a Transfer-Encoding."
        raise BadRequestError(HTTPStatus.BAD_REQUEST, message)
    if len(request.target) > MAX_TARGET:
        raise BadRequestError(HTTPStatus.REQUEST_URI_TOO_LONG, f"The URL has more than {MAX_TARGET} bytes.")
    if sum(len(name) + len(value) for name, value in request.headers) > MAX_HEAD:
        message = f"The headers have more than {MAX_HEAD} bytes."
        raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message)
    if (method := request.method.decode()) not in METHODS:
        known = method in HTTPMethod.__members__
        status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_IMPLEMENTED
        raise BadRequestError(status, f"The method must be one of {', '.join(METHODS)}.")
    if method == "POST" and length is None and not is_chunked:
        raise BadRequestError(HTTPStatus.LENGTH_REQUIRED, "The request has no Content-Length.")
    if length is not None and int(length) > max_body:
        raise too_large(max_body)
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise BadRequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body is compressed: send it uncompressed.")


def too_large(max_body: int) -> BadRequestError:
    message = f"The request has too many bytes: at most {max_body} are allowed."
    return BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def malformed(error, http) -> BadRequestError:
    """Return the refusal of what h11 could not read as HTTP."""
    reason = str(error).partition(": bytearray(")[0]  # h11 repeats what was sent after this
    status = HTTPStatus(error.error_status_hint)
    if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE and b"\n" not in http.trailing_data[0]:
        status = HTTPStatus.REQUEST_URI_TOO_LONG
    elif str(error) == "bad Content-Length":
        status = HTTPStatus.LENGTH_REQUIRED
    return BadRequestError(status, f"Malformed request: {reason}")
