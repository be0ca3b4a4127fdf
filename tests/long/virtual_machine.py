"""A small Linux that can be killed: Debian's ordinary kernel and an initramfs of chosen files in QEMU.

QEMU runs in software emulation (`-accel tcg`), so neither KVM nor root is needed. The kernel package is downloaded and
unpacked into a cache folder, never installed. Not the cloud flavour: it lacks drivers such as mac80211_hwsim.

The guest has no /etc, no users and no service: init loads the modules, runs one shell script and powers off.
"""

import asyncio
import compileall
import lzma
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "depmod": "kmod",
    "mkfs.ext4": "e2fsprogs",
    "hostapd": "hostapd",
    "hostapd_cli": "hostapd",
    "wpa_supplicant": "wpasupplicant",
    "wpa_cli": "wpasupplicant",
    "iw": "iw",
    "dnsmasq": "dnsmasq-base",
    "mosquitto": "mosquitto",
}
"""Each tool that is called here or in a guest, and the Debian package that has it."""

KERNEL = "linux-image-amd64"
"""Depends on the current kernel package of the ordinary flavour."""

TAIL_LINES = 40
"""How much of the console an error shows."""

_INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin PYTHONPATH=/packages
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
while read -r module; do insmod $module || echo "cannot load $module"; done < /modules
. /main.sh
poweroff -f
"""

_NOT_NEEDED = shutil.ignore_patterns(
    "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "pydoc_data", "config-*",
    "site-packages", "dist-packages", "*.opt-?.pyc", "_tkinter*", "_test*",
)  # fmt: skip


class MissingTool(Exception):
    """A program of :data:`PACKAGES` is not installed."""


class GuestError(Exception):
    """The machine ended, or was silent for too long; shows the end of its console."""


class Kernel(NamedTuple):
    """An unpacked kernel package."""

    image: Path
    modules: Path
    """`lib/modules/<version>`, with `modules.dep`."""

    def load_order(self, names: Iterable[str]) -> list[Path]:
        """Files of these modules and of all that they depend on, in the order in which insmod takes them.

        :raises KeyError: when this kernel has no such module.
        """
        dependencies = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            file, _, needs = line.partition(":")
            dependencies[module_name(Path(file))] = [*reversed(needs.split()), file]
        files = dict.fromkeys(file for name in names for file in dependencies[name.replace("-", "_")])
        return [self.modules / file for file in files]


def module_name(file: Path) -> str:
    """That of a module's file, as the kernel writes it."""
    return file.name.split(".")[0].replace("-", "_")


def debian_kernel(cache: Path) -> Kernel:
    """Debian's current kernel for amd64 from `cache`, downloaded (70 MB) the first time.

    :raises LookupError: when apt does not know it.
    :raises subprocess.CalledProcessError: when apt cannot get it.
    """
    try:
        return _cached_kernel(cache)
    except (LookupError, subprocess.CalledProcessError):
        if os.geteuid() != 0:
            raise
        _run("apt-get", "--quiet=2", "update", deadline_s=300)  # an old index names packages that are gone
        return _cached_kernel(cache)


def _cached_kernel(cache: Path) -> Kernel:
    depends = _run("apt-cache", "depends", "--important", KERNEL)
    match = re.search(r"Depends: (linux-image-(\S+-amd64))$", depends, re.MULTILINE)
    if match is None:
        raise LookupError(f"apt-cache knows no {KERNEL}: this needs Debian on amd64, and apt-get update")
    package, version = match.groups()
    folder = cache / package
    if not folder.exists():
        fresh = cache / f"{package}.{os.getpid()}"
        fresh.mkdir(parents=True)
        _run("apt-get", "--quiet=2", "--option=APT::Sandbox::User=root", "download", package, cwd=fresh, deadline_s=300)
        [archive] = fresh.glob("*.deb")
        _run("dpkg-deb", "--extract", str(archive), str(fresh), deadline_s=120)
        archive.unlink()
        _run(tool("depmod"), "--basedir", str(fresh), version)
        _decompress(fresh / "boot" / f"vmlinuz-{version}", fresh / "vmlinux")
        fresh.rename(folder)
    return Kernel(folder / "vmlinux", folder / "lib" / "modules" / version)


def _decompress(packed: Path, image: Path) -> None:
    """The kernel proper, which QEMU starts through PVH: under emulation its own decompressor takes seconds."""
    data = packed.read_bytes()
    image.write_bytes(lzma.LZMADecompressor().decompress(data[data.index(b"\xfd7zXZ\0") :]))


class Initramfs:
    """Collects the guest's files in `folder`; :meth:`pack` makes the archive that the kernel unpacks at boot."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        for name in ("bin", "dev", "proc", "sys", "tmp", "packages"):
            (folder / name).mkdir(parents=True)
        self.add(Path(tool("busybox")), "/bin/busybox")
        self.write("/init", _INIT, mode=0o755)

    def write(self, at: str, text: str, mode: int = 0o644) -> None:
        """A file with this text."""
        file = self._root / at.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def add(self, source: Path, at: str | None = None) -> None:
        """A file or a folder of the host, at the same path unless `at` differs, with the shared libraries it needs."""
        file = self._root / (at or str(source)).lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        # Times are kept: compiled Python is only used when its source has the time that it was compiled from.
        if source.is_dir():
            shutil.copytree(source, file, ignore=_NOT_NEEDED, dirs_exist_ok=True)
            binaries = [path for path in file.rglob("*.so*") if path.is_file()]
        else:
            shutil.copy2(source, file)
            binaries = [source]
        for library in {library for binary in binaries for library in _libraries(binary)}:
            place = self._root / str(library).lstrip("/")
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(library, place)

    def add_python(self, *modules: str) -> None:
        """The Python that runs this, as `python3`, its standard library, and these installed modules and packages."""
        interpreter = Path(sys.executable).resolve()
        self.add(interpreter)
        (self._root / "bin/python3").symlink_to(interpreter)
        for library in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
            # A virtual environment has no standard library of its own.
            self.add(Path(library.replace(sys.prefix, sys.base_prefix)))
        for module in modules:
            spec = find_spec(module)
            if spec is None or spec.origin is None:
                raise LookupError(f"no module {module} is installed")
            source = Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)
            self.add(source, f"/packages/{source.name}")
        compileall.compile_dir(self._root / "packages", quiet=2)

    def add_modules(self, kernel: Kernel, *names: str) -> None:
        """Kernel modules, loaded at boot in this order, each after what it depends on. Call it once.

        A name may be followed by parameters: ``"mac80211_hwsim radios=4"``.
        """
        parameters = {name.replace("-", "_"): words for name, _, words in (text.partition(" ") for text in names)}
        files = kernel.load_order(parameters)
        lines = []
        for file in files:
            self.add(file, f"/modules.d/{file.name}")
            lines.append(f"/modules.d/{file.name} {parameters.get(module_name(file), '')}".strip() + "\n")
        self.write("/modules", "".join(lines))

    def pack(self, archive: Path, main: str) -> Path:
        """Write `archive`. `main` is the shell script that the guest runs; when it ends, the guest powers off."""
        self.write("/main.sh", main)
        names = "\0".join(str(path.relative_to(self._root)) for path in sorted(self._root.rglob("*")))
        with archive.open("wb") as out:
            subprocess.run(
                [tool("cpio"), "--create", "--null", "--quiet", "--format=newc", "--owner=0:0"],
                cwd=self._root,
                input=names.encode(),
                stdout=out,
                check=True,
                timeout=60,
            )
        return archive


def ext4_disk(image: Path, size_mib: int) -> Path:
    """A raw disk image with an empty ext4 file system, made without root."""
    with image.open("wb") as file:
        file.truncate(size_mib * 1024 * 1024)
    _run(tool("mkfs.ext4"), "-q", "-F", str(image))
    return image


class VirtualMachine:
    """A running machine, seen through its serial console."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.console: list[str] = []
        """Every whole line so far."""

    async def line(self, deadline_s: float) -> str:
        """The next whole line of the console.

        :raises GuestError: when none comes within `deadline_s` or the machine has ended.
        """
        line = None
        try:
            async with asyncio.timeout(deadline_s):
                line = await self._read()
        except TimeoutError:
            raise GuestError(f"silent for {deadline_s:g} s\n{self._tail()}") from None
        if line is None:
            raise GuestError(f"ended by itself\n{self._tail()}")
        return line

    async def cut(self, after_s: float = 0.0) -> list[tuple[float, str]]:
        """Pull the plug after `after_s` seconds: SIGKILL.

        Returns the lines that came until then, each with its time.monotonic().

        :raises GuestError: when the machine had ended by itself.
        """
        lines = []
        kill = asyncio.get_running_loop().call_later(after_s, self._kill)
        while (line := await self._read()) is not None:
            lines.append((time.monotonic(), line))
        kill.cancel()
        if await self._process.wait() != -signal.SIGKILL:
            raise GuestError(f"ended by itself\n{self._tail()}")
        return lines

    def _kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def _read(self) -> str | None:
        assert self._process.stdout is not None
        data = await self._process.stdout.readline()
        if not data.endswith(b"\n"):  # a line cut off by the end says nothing
            return None
        line = data.decode(errors="replace").strip("\r\n")
        self.console.append(line)
        return line

    def _tail(self) -> str:
        return "\n".join(self.console[-TAIL_LINES:])


@asynccontextmanager
async def boot(
    kernel: Kernel,
    initramfs: Path,
    *,
    disks: Sequence[Path] = (),
    memory_mib: int = 512,
    cpus: int = 1,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[VirtualMachine]:
    """Start a machine; it is killed at the end of the block.

    Disks are raw images with QEMU's write-back cache: what the guest has flushed survives :meth:`VirtualMachine.cut`,
    what it holds in its own page cache is gone. `environment` is what the guest's script and its children
    find in theirs; it travels on the kernel's command line, so no spaces and no dots in names.
    """
    command_line = ["console=ttyS0 quiet loglevel=1 panic=-1 random.trust_cpu=on"]
    command_line += [f"{name}={value}" for name, value in (environment or {}).items()]
    drives = [f"file={disk},format=raw,if=virtio,cache=writeback" for disk in disks]
    process = await asyncio.create_subprocess_exec(
        tool("qemu-system-x86_64"),
        *("-accel", "tcg", "-cpu", "max", "-smp", str(cpus), "-m", str(memory_mib), "-nodefaults", "-no-reboot"),
        *("-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none"),
        *("-kernel", str(kernel.image), "-initrd", str(initramfs)),
        *("-append", " ".join(command_line)),
        *(argument for drive in drives for argument in ("-drive", drive)),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
    )
    machine = VirtualMachine(process)
    try:
        yield machine
    finally:
        machine._kill()
        await process.wait()


def tool(name: str) -> str:
    """Path of a program.

    :raises MissingTool: naming the package to install.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise MissingTool(f"{name} is missing: apt-get install {PACKAGES[name]}")
    return found


def _libraries(binary: Path) -> frozenset[Path]:
    """Shared libraries and the loader of a program; none when it is static."""
    listing = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, timeout=10).stdout
    return frozenset(Path(path) for path in re.findall(r"(?:=> |^\s)(/\S+) \(", listing, re.MULTILINE))


def _run(*command: str, cwd: Path | None = None, deadline_s: float = 60) -> str:
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True, timeout=deadline_s).stdout
