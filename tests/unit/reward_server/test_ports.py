from __future__ import annotations

import socket

import pytest

from assay.errors import StartupError
from reward_server.ports import check_port_free, claim_ports


def test_blocks_of_two_instances_never_overlap() -> None:
    with claim_ports() as first, claim_ports() as second:
        assert abs(first.first - second.first) >= 100
        low, high = first.replicas
        assert len({first.first, first.stats, first.metrics, first.fallback, low, high}) == 6
        assert high < second.first or second.first < first.first


def test_block_with_one_busy_port_is_passed_over() -> None:
    with claim_ports() as block:
        pass
    with socket.create_server(("127.0.0.1", block.replicas[1])), claim_ports() as other:
        assert other.first != block.first


def test_busy_port_is_refused_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(StartupError, match=f"127.0.0.1:{port}: address already in use"):
            check_port_free("127.0.0.1", port)
    check_port_free("127.0.0.1", port)


def test_host_that_does_not_resolve_is_refused() -> None:
    with pytest.raises(StartupError, match=r"nowhere\.invalid"):
        check_port_free("nowhere.invalid", 8000)
