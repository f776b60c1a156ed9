"""Ports: each once, and only such as nobody here is bound to."""

import socket

import pytest

from asynccam.errors import BusyError, UsageError
from asynccam.systems.thorvision import PortPool
from asynccam.systems.thorvision.ports import DEFAULT_PORTS, is_free


def bound(family: socket.AddressFamily, address: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((address, 0))
    return sock


def test_take_gives_each_port_once() -> None:
    pool = PortPool(range(40001, 40004), rng=lambda: 0.0)
    assert [pool.take() for _ in range(3)] == [40001, 40002, 40003]
    assert pool.used == {40001, 40002, 40003}
    with pytest.raises(BusyError, match="all 3 SRT ports"):
        pool.take()
    pool.release(40002)
    pool.release(40002)
    assert pool.take() == 40002


def test_released_port_is_not_the_next_one() -> None:
    pool = PortPool(range(40001, 40004), rng=lambda: 0.0)
    pool.release(pool.take())
    assert pool.take() == 40002


def test_pools_begin_at_different_ports() -> None:
    assert PortPool(rng=lambda: 0.999).take() == DEFAULT_PORTS[-1]
    assert len({PortPool().take() for _ in range(30)}) > 1


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")],
)
def test_port_bound_by_another_program_is_skipped(family: socket.AddressFamily, address: str) -> None:
    with bound(family, address) as sock:
        taken = sock.getsockname()[1]
        assert not is_free(taken)
        with pytest.raises(BusyError):
            PortPool([taken]).take()
    assert is_free(taken)


@pytest.mark.parametrize("ports", [[], [0], [65536]])
def test_pool_with_invalid_ports(ports: list[int]) -> None:
    with pytest.raises(UsageError):
        PortPool(ports)
