"""The sockets of a server, taken before anything is loaded. Imports nothing else of Loomax."""

import errno
import socket


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets for all addresses of a host, which do not listen yet.

    Args:
        port: 0 takes a free one.

    Raises:
        OSError: naming host and port: it is in use, or not of this machine.
    """
    held: list[socket.socket] = []
    try:
        for family, kind, proto, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            one = socket.socket(family, kind, proto)
            held.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address[0], port, *address[2:]))
            # All addresses get the port that was free at the first.
            port = one.getsockname()[1]
    except OSError as error:
        for one in held:
            one.close()
        hint = "; give another --port" if error.errno == errno.EADDRINUSE else ""
        reason = f"cannot serve on {host} port {port}: {error.strerror or error}{hint}"
        raise OSError(error.errno, reason) from None
    return held
