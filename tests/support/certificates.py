"""Certificates that a test makes: authorities, brokers, devices, and such as are good for nothing."""

import shutil
import subprocess
from pathlib import Path

import pytest


class Authority:
    """One authority, in a folder of its own."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl makes the certificates")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.key, self.certificate = folder / f"{name}.key", folder / f"{name}.pem"
        _openssl("req", "-x509", *_NEW_KEY, "-days", "2", "-subj", f"/CN={name}", *_files(self.key, self.certificate))

    def issue(self, name: str, host: str = "IP:127.0.0.1", *, days: int = 2) -> tuple[Path, Path]:
        """Return key and certificate; with `days` below 0 it has expired."""
        key, request, certificate = (self._folder / f"{name}.{suffix}" for suffix in ("key", "csr", "pem"))
        extensions = self._folder / f"{name}.cnf"
        extensions.write_text(f"subjectAltName={host}\n")
        _openssl("req", *_NEW_KEY, "-subj", f"/CN={name}", *_files(key, request))
        authority = ["-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-extfile", extensions]
        _openssl("x509", "-req", "-in", request, *authority, "-days", days, "-out", certificate)
        return key, certificate


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _files(key: Path, out: Path) -> list[str]:
    return ["-keyout", str(key), "-out", str(out)]


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
