"""Drops every packet to and from some loopback addresses, in the kernel; needs root.

Speaks nf_tables' netlink protocol itself (linux/netfilter/nf_tables.h): a handful of messages,
and no program to install. The table is *owned* by the socket that made it, so the
kernel takes it away with the process that holds the socket, whatever way that ends.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from itertools import count

from harness.errors import LabError

_NETLINK_NETFILTER = 12
_NFNL_SUBSYS_NFTABLES = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _NEWCHAIN, _NEWRULE, _DELRULE = 0, 3, 6, 8
_NLMSG_ERROR = 2
_REQUEST, _ACK, _CREATE, _APPEND = 0x1, 0x4, 0x400, 0x800
_NESTED = 0x8000
_OWNER = 0x2
_HOOK_LOCAL_IN = 1
_NF_DROP, _NF_ACCEPT = 0, 1
#: Where the addresses are in an IPv4 header.
_SOURCE, _DESTINATION = 12, 16
_NETWORK_HEADER, _REGISTER, _REGISTER_VERDICT, _EQUAL = 1, 1, 0, 0
_CHAIN = "dark"


class PacketFilter:
    """One table of the kernel's packet filter, gone with this object or its process."""

    def __init__(self, table: str) -> None:
        """Make the table. Raises LabError without the right to (root, CAP_NET_ADMIN)."""
        self._table = table
        self._sequence = count(1)
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.settimeout(5.0)
        self._socket.bind((0, 0))
        named = _text(1, table)
        hook = _nest(4, _number(1, _HOOK_LOCAL_IN) + _number(2, 0))
        chain = named + _text(3, _CHAIN) + hook + _number(5, _NF_ACCEPT) + _text(7, "filter")
        try:
            self._send((_NEWTABLE, named + _number(2, _OWNER)), (_NEWCHAIN, chain))
        except OSError as error:
            self.close()
            raise LabError(
                f"the kernel's packet filter cannot be used: {error.strerror}",
                hint="run as root, or leave --network away: cutting off zones then needs no root",
            ) from error

    def drop(self, addresses: Iterable[str]) -> None:
        """From now on drop what goes to or comes from ``addresses``, and nothing else."""
        rules = [
            (_NEWRULE, self._rule(offset, address))
            for address in sorted(set(addresses))
            for offset in (_SOURCE, _DESTINATION)
        ]
        # One batch is one step: no packet meets half of the new rules.
        self._send((_DELRULE, _text(1, self._table) + _text(2, _CHAIN)), *rules)

    def close(self) -> None:
        """Take the table away."""
        self._socket.close()

    def _rule(self, offset: int, address: str) -> bytes:
        load = _number(1, _REGISTER) + _number(2, _NETWORK_HEADER) + _number(3, offset)
        compare = _number(1, _REGISTER) + _number(2, _EQUAL)
        compare += _nest(3, _attribute(1, socket.inet_aton(address)))
        verdict = _number(1, _REGISTER_VERDICT) + _nest(2, _nest(2, _number(1, _NF_DROP)))
        expressions = [
            ("payload", load + _number(4, 4)),
            ("cmp", compare),
            ("immediate", verdict),
        ]
        listed = b"".join(_nest(1, _text(1, name) + _nest(2, data)) for name, data in expressions)
        return _text(1, self._table) + _text(2, _CHAIN) + _nest(4, listed)

    def _send(self, *messages: tuple[int, bytes]) -> None:
        """Carry out ``messages`` (type, attributes) in one step; OSError says why not."""
        batch = self._message(_BATCH_BEGIN, _REQUEST, _NFNL_SUBSYS_NFTABLES)
        wanted = set()
        for kind, attributes in messages:
            flags = _REQUEST | _ACK | (0 if kind == _DELRULE else _CREATE | _APPEND)
            number = (_NFNL_SUBSYS_NFTABLES << 8) | kind
            message = self._message(number, flags, 0, attributes, socket.AF_INET)
            wanted.add(struct.unpack_from("=I", message, 8)[0])
            batch += message
        batch += self._message(_BATCH_END, _REQUEST, _NFNL_SUBSYS_NFTABLES)
        self._socket.send(batch)
        while wanted:
            wanted -= self._answers()

    def _answers(self) -> set[int]:
        """Sequence numbers acknowledged by one datagram; raises the error it carries."""
        answer = self._socket.recv(65536)
        acknowledged = set()
        while len(answer) >= 16:
            length, kind, _, sequence, _ = struct.unpack_from("=IHHII", answer)
            if kind == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", answer, 16)[0]
                if code:
                    raise OSError(code, os.strerror(code) if code != errno.EPERM else "not allowed")
                acknowledged.add(sequence)
            answer = answer[_aligned(length) :]
        return acknowledged

    def _message(
        self, kind: int, flags: int, resource: int, attributes: bytes = b"", family: int = 0
    ) -> bytes:
        body = struct.pack("=BBH", family, 0, socket.htons(resource)) + attributes
        header = struct.pack("=IHHII", 16 + len(body), kind, flags, next(self._sequence), 0)
        return header + body


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (_aligned(length) - length)


def _nest(kind: int, inside: bytes) -> bytes:
    return _attribute(kind | _NESTED, inside)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack(">I", value))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")
