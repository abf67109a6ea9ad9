"""The real servers that models are fetched from; scripts/partners brings them."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.brokers import free_port
from support.waiting import until

HERE = Path(__file__).parents[2]
FOLDER = HERE / ".cache" / "partners"


def is_here(name: str) -> bool:
    """Return True where scripts/partners, or the system, has brought a partner."""
    return program(name) is not None


def program(name: str) -> str | None:
    """Return the path of a partner's program."""
    path = os.pathsep.join(
        str(FOLDER / inner) for inner in ("root/usr/bin", "root/usr/sbin", "moto/bin", "mlflow/bin", "fuse/bin")
    )
    return shutil.which(name, path=path) or shutil.which(name)


@contextmanager
def running(*command: str, port: int = 0, folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for the length of the block, which begins when it listens; its words go to a file in `folder`."""
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=os.environ | environment, start_new_session=True
        )
        try:
            if port:
                until(lambda: _listens(port) or process.poll() is not None)
            assert process.poll() is None, (folder / f"{Path(command[0]).name}.log").read_text()
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def nginx(folder: Path, tls: tuple[Path, Path] | None = None, more: str = "") -> Iterator[str]:
    """Serve `folder`; yield HOST:PORT."""
    port = free_port()
    secure = f"ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};" if tls else ""
    listen = f"127.0.0.1:{port}{' ssl' if tls else ''}"
    temporary = "".join(
        f"{kind}_temp_path {folder}/.tmp-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr; user root;\nevents {{}}\n"
        f"http {{ access_log off; {temporary} server {{ listen {listen}; {secure} root {folder}; {more} }} }}\n"
    )
    binary = program("nginx")
    assert binary is not None
    with running(binary, "-c", str(config), "-p", str(folder), port=port, folder=folder):
        yield f"127.0.0.1:{port}"


@contextmanager
def docker_registry(folder: Path) -> Iterator[str]:
    """Run Debian's docker-registry; yield HOST:PORT."""
    port = free_port()
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {folder}/blobs}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    binary = program("docker-registry")
    assert binary is not None
    with running(binary, "serve", str(config), port=port, folder=folder):
        yield f"127.0.0.1:{port}"


@contextmanager
def moto_server(folder: Path) -> Iterator[str]:
    """Run moto's S3; yield HOST:PORT."""
    port = free_port()
    binary = program("moto_server")
    assert binary is not None
    with running(binary, "-H", "127.0.0.1", "-p", str(port), port=port, folder=folder):
        yield f"127.0.0.1:{port}"


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run an MLflow tracking server with its artifact proxy; yield HOST:PORT."""
    port = free_port()
    binary = program("mlflow")
    assert binary is not None
    database, artifacts = f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts")
    places = ("--backend-store-uri", database, "--artifacts-destination", artifacts)
    options = ("--serve-artifacts", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    with running(binary, "server", *places, *options, port=port, folder=folder, MLFLOW_DISABLE_TELEMETRY="true"):
        yield f"127.0.0.1:{port}"


def in_mlflow(code: str, *arguments: str, folder: Path) -> None:
    """Run Python code with the mlflow package, as somebody who registers models does."""
    python = str(FOLDER / "mlflow" / "bin" / "python")
    subprocess.run([python, "-c", code, *arguments], check=True, cwd=folder, env=os.environ | {"DO_NOT_TRACK": "true"})


@contextmanager
def slow_mount(file: Path, mount: Path, *, pause_s: float, hang_after: int = 1 << 60) -> Iterator[Path]:
    """Mount a folder with a slow copy of `file`, as a NAS; yield the path of that."""
    mount.mkdir()
    python = str(FOLDER / "fuse" / "bin" / "python")
    script = str(HERE / "tests" / "partners" / "slow_mount.py")
    library = next((FOLDER / "root").rglob("libfuse3.so.3"), Path("libfuse3.so.3"))
    arguments = (str(mount), str(file), str(pause_s), str(hang_after))
    try:
        with running(python, script, *arguments, folder=file.parent, FUSE_LIBRARY_PATH=str(library)) as process:
            until(lambda: os.path.ismount(mount) or process.poll() is not None)
            yield mount / file.name
    finally:
        subprocess.run(["umount", "-l", mount], check=False)
