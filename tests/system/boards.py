"""A board on loopback: a real sshd with its own port and keys, a model file, and a camera that runs it."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from running import find_port, need, wait_until

PATHS = os.pathsep.join(path for path in sys.path if path)


class Sshd:
    """`sshd` with a port, host key and authorized key of its own, for the user who runs the tests."""

    user = getpass.getuser()

    def __init__(self, folder: Path, home: Path | None = None) -> None:
        self.folder = folder
        self.port = find_port()
        self.home = home or folder / "home"  # of whoever logs in
        self.home.mkdir(exist_ok=True)
        self._program = need("sshd")
        for name in ("host", "user"):
            keygen = [need("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(keygen, check=True)
        shutil.copy(folder / "user.pub", folder / "authorized_keys")
        public = (folder / "host.pub").read_text().split()[:2]
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {' '.join(public)}\n")
        self._write()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def board(self) -> str:
        """What is given to ssh as the board."""
        return f"{self.user}@line-1"

    @property
    def ssh_config(self) -> Path:
        """The configuration for ssh that leads there."""
        return self.folder / "ssh_config"

    def start(self) -> None:
        """Listen."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd confines its unprivileged part
        self._log = (self.folder / "sshd.log").open("ab")
        self._process = subprocess.Popen(self._command(), stderr=self._log, start_new_session=True)
        wait_until(lambda: b"Server listening" in (self.folder / "sshd.log").read_bytes(), 10, "sshd")

    @property
    def pid(self) -> int:
        """The process that listens."""
        assert self._process is not None
        return self._process.pid

    def sessions(self) -> list[int]:
        """Return the processes of the sessions that it serves now."""
        assert self._process is not None
        return _descendants(self._process.pid)

    def cut(self) -> None:
        """End all connections as a loss of the network would, which leaves what runs there alone."""
        for pid in self.sessions():
            if b"sshd" in command_of(pid):
                _kill(pid)

    def close(self) -> None:
        """End it with its connections."""
        self.cut()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _command(self) -> list[str]:
        # -D -e: in the foreground, with its log on stderr.
        return [self._program, "-D", "-e", "-f", str(self.folder / "sshd_config")]

    def _write(self) -> None:
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder / 'host'}\n"
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}\nPidFile {self.folder / 'sshd.pid'}\n"
            f"SetEnv HOME={self.home} XDG_CONFIG_HOME={self.home / '.config'}\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nMaxStartups 100\n"
        )
        self.ssh_config.write_text(
            f"Host line-1\n HostName 127.0.0.1\n Port {self.port}\n IdentityFile {self.folder / 'user'}\n IdentitiesOnly yes\n"
            f" HostKeyAlias [127.0.0.1]:{self.port}\n UserKnownHostsFile {self.folder / 'known_hosts'}\n"
        )


class BareBoard(Sshd):
    """A Debian of its own below `root`, with a user `pi`, and sshd and Python and nothing of ours; only root may make one."""

    user = "pi"

    def __init__(self, folder: Path, root: Path) -> None:
        self.root = root
        # extract: no package's own script runs; what the board needs of what they would have done follows.
        packages = "base-files,base-passwd,libc-bin,dash,bash,coreutils,tar,openssh-server,python3,python3-venv,libstdc++6"
        make = ["mmdebstrap", "--quiet", "--variant=extract", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]
        subprocess.run([*make, f"--include={packages}", "bookworm", str(root)], check=True, timeout=300)
        accounts = (
            "root:x:0:0::/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\npi:x:1000:1000::/home/pi:/bin/bash\n"
        )
        (root / "etc/passwd").write_text(accounts)
        (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\npi:x:1000:\n")
        (root / "run/sshd").mkdir(parents=True)
        (root / "home/pi/.ssh").mkdir(parents=True)
        super().__init__(folder, root / "home/pi")

    def _command(self) -> list[str]:
        # Mounts and processes stand in namespaces of their own, and go with the first of these processes.
        enter = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" /usr/sbin/sshd -D -e'
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", enter, str(self.root)]

    def _write(self) -> None:
        super()._write()
        shutil.copy(self.folder / "host", self.root / "etc/ssh/host")
        shutil.copy(self.folder / "user.pub", self.home / ".ssh/authorized_keys")
        (self.root / "etc/ssh/sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey /etc/ssh/host\nUsePAM no\nPasswordAuthentication no\n"
        )
        for path in (self.home, *self.home.rglob("*")):
            os.chown(path, 1000, 1000)


def _descendants(pid: int) -> list[int]:
    try:
        tasks = list((Path("/proc") / str(pid) / "task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [each for child in children for each in (child, *_descendants(child))]


def command_of(pid: int) -> bytes:
    """Return the command line of a process, empty when it has ended."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def install_program(folder: Path) -> Path:
    """Write the command `edgecnn` of a board, which runs this very edgecnn."""
    program = folder / "edgecnn"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{PATHS}" exec "{sys.executable}" -m edgecnn "$@"\n')
    program.chmod(0o755)
    return program
