"""Joining a cluster that is not there: told within seconds, with the name of what says that it is there."""

import socket
from types import SimpleNamespace

import pytest

from irnas_ray.cluster import connection, local_cluster
from irnas_ray.cluster.connection import check_connection, connect
from irnas_ray.settings.study import Cluster


@pytest.fixture
def silent() -> socket.socket:
    """Something that listens and never says a word."""
    listener = socket.create_server(("127.0.0.1", 0))
    yield listener
    listener.close()


def address_of(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_dead_cluster_is_named_with_what_names_it(silent: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    address = address_of(silent)
    silent.close()
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(OSError, match=r"^RAY_ADDRESS: no Ray cluster answers at .*refused.*cluster.address=local"):
        check_connection(Cluster())
    with pytest.raises(OSError, match=rf"^cluster.address: no Ray cluster answers at ray://{address} \(.*refused"):
        check_connection(Cluster(address=f"ray://{address}"))
    with pytest.raises(OSError, match=r"^RAY_ADDRESS: no Ray cluster answers"):
        check_connection(Cluster(address="auto"))
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(OSError, match=r"^RAY_ADDRESS: Invalid address format: nonsense; start it"):
        check_connection(Cluster())
    check_connection(Cluster(address="local"))


def test_what_never_answers_is_given_up(silent: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection.PATIENCE == 10
    monkeypatch.setattr(connection, "PATIENCE", 2)
    # Ray takes 127.0.0.1 for the machine's address in its network
    monkeypatch.setattr(connection, "joined_address", lambda address: address)
    with pytest.raises(OSError, match="cluster.address: no Ray cluster answers at .*no answer within 2 s"):
        check_connection(Cluster(address=address_of(silent)))


def test_a_cluster_that_ray_start_left_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Ray joins, without a word, the one that a file in its temporary folder names."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    with pytest.raises(OSError, match="the cluster that `ray start` began here: no Ray cluster answers at .*:1 "):
        check_connection(Cluster())


@pytest.mark.parametrize("shown", [True, False])
def test_a_cluster_that_is_started_here_has_a_dashboard_unless_none_is_wanted(
    shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    monkeypatch.setattr(connection.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(connection, "_stop_cleanly_on_termination", lambda: None)

    def init(**arguments: object) -> SimpleNamespace:
        told.append(arguments["include_dashboard"])
        return SimpleNamespace(dashboard_url="127.0.0.1:8265" if shown else "")

    monkeypatch.setattr(local_cluster.ray, "init", init)
    monkeypatch.setattr(local_cluster.atexit, "register", lambda _: None)
    address = connect(Cluster(address="local", dashboard=shown))
    assert (told, address) == ([shown], "127.0.0.1:8265" if shown else None)
