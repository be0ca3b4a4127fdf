"""Our own certificate authority: P-256 keys and certificates for the broker, its servers and every agent.

One folder holds it: the authority's key, a ledger with a line for every certificate made or revoked (the audit log),
and a folder for each server with what that server needs. Agents' keys are not kept: they leave in their bundles.
"""

import ipaddress
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from store.tables import ConfigError

DAYS: Final = 730
"""Of a certificate: two years, until renewal is automatic."""
AUTHORITY_DAYS: Final = 7300
REVOCATIONS_DAYS: Final = 7300
"""Of the list of revoked certificates. A list that ends is a broker that refuses everybody."""
BACK_DATED: Final = timedelta(days=1)
"""A box whose clock is behind believes its certificate."""

Kind = Literal["broker", "server", "agent"]
SERVERS: Final = ("collector", "perception")
"""Who else connects to the broker, each with rights of its own; no agent may be called so."""
RESERVED: Final = frozenset({"all", "broker", *SERVERS})


class Credentials(NamedTuple):
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Certificate(NamedTuple):
    """A line of the ledger as it stands now."""

    name: str
    kind: Kind
    serial: str
    """Hexadecimal."""
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None

    def days_left(self, now: datetime) -> float:
        """Below 0 once it has expired."""
        return (self.expires_at - now) / timedelta(days=1)


class Authority:
    """The authority in `folder`."""

    def __init__(self, folder: Path) -> None:
        """:raises ConfigError: when there is none."""
        self.folder = folder
        if not self._key_file.exists():
            raise ConfigError(f"authority: {folder} holds none yet; run: wanggan fleet init")
        try:
            key = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
            self._certificate = x509.load_pem_x509_certificate(self.ca_pem)
        except (OSError, ValueError) as error:
            raise ConfigError(f"authority: {folder}: its key or certificate cannot be used: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"authority: {self._key_file} holds no elliptic curve key")
        self._key = key

    @classmethod
    def create(cls, folder: Path, now: datetime) -> "Authority":
        """The one in `folder`; a new one where there is none."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / "ca.key").exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = _name("Wanggan fleet")
            builder = _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            builder = builder.add_extension(_usage(authority=True), critical=True)
            write(folder / "ca.pem", _pem(builder.sign(key, hashes.SHA256())), 0o644)
            write(folder / "ca.key", _key_pem(key))  # last: its presence says that the authority is whole
        return cls(folder)

    @property
    def ca_pem(self) -> bytes:
        """What everybody trusts."""
        return (self.folder / "ca.pem").read_bytes()

    def issue(self, name: str, kind: Kind, now: datetime, hosts: Sequence[str] = ()) -> Credentials:
        """A new certificate for `name`, noted in the ledger. `hosts` are names and addresses that a server answers to.

        Older ones of the same name stay good until they expire or are revoked, so that a box can change over.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), self._certificate.subject, key.public_key(), now, DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(authority=False), critical=True)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if kind == "broker" else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), False)
        certificate = builder.sign(self._key, hashes.SHA256())
        self._note(
            now,
            "issued",
            name=name,
            kind=kind,
            serial=f"{certificate.serial_number:x}",
            expires_at=certificate.not_valid_after_utc.isoformat(),
        )
        return Credentials(_pem(certificate), _key_pem(key))

    def revoke(self, name: str, now: datetime) -> list[Certificate]:
        """Revoke every certificate of `name` and write the broker's list; those that were revoked by this."""
        found = [one for one in self.certificates() if one.name == name and one.revoked_at is None]
        for one in found:
            self._note(now, "revoked", name=name, kind=one.kind, serial=one.serial)
        self.write_revocations(now)
        return found

    def write_revocations(self, now: datetime) -> Path:
        """The list of revoked certificates, for the broker."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._certificate.subject)
        builder = builder.last_update(now - BACK_DATED).next_update(now + timedelta(days=REVOCATIONS_DAYS))
        for one in self.certificates():
            if one.revoked_at is not None:
                revoked = x509.RevokedCertificateBuilder().serial_number(int(one.serial, 16))
                builder = builder.add_revoked_certificate(revoked.revocation_date(one.revoked_at).build())
        path = self.folder / "broker/crl.pem"
        write(path, builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), 0o644)
        return path

    def write_server(self, name: str, kind: Kind, now: datetime, hosts: Sequence[str] = ()) -> Path:
        """Certificate, key and our CA in a folder of their own, for one server of ours."""
        folder = self.folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        made = self.issue(name, kind, now, hosts)
        write(folder / "ca.pem", self.ca_pem, 0o644)
        write(folder / f"{name}.key", made.key)
        write(folder / f"{name}.pem", made.certificate, 0o644)
        return folder

    def certificates(self) -> list[Certificate]:
        """Every one that was made, oldest first.

        :raises ConfigError: when the ledger is damaged.
        """
        found: dict[str, Certificate] = {}
        try:
            lines = self._ledger.read_text().splitlines()
        except FileNotFoundError:
            return []
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                at = datetime.fromisoformat(entry["at"])
                if entry["action"] == "revoked":
                    found[entry["serial"]] = found[entry["serial"]]._replace(revoked_at=at)
                else:
                    expires_at = datetime.fromisoformat(entry["expires_at"])
                    found[entry["serial"]] = Certificate(
                        entry["name"], entry["kind"], entry["serial"], at, expires_at, None
                    )
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"{self._ledger}: line {number} is damaged; restore it from the back-up") from error
        return list(found.values())

    @property
    def _key_file(self) -> Path:
        return self.folder / "ca.key"

    @property
    def _ledger(self) -> Path:
        return self.folder / "ledger.jsonl"

    def _note(self, now: datetime, action: str, **words: str) -> None:
        """Append a line, on disk before anybody gets the certificate."""
        line = json.dumps({"at": now.isoformat(), "action": action, "by": _who(), **words}) + "\n"
        descriptor = os.open(self._ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def write(path: Path, data: bytes, mode: int = 0o600, *, keep_owner: bool = True) -> None:
    """A file that appears whole or not at all.

    :param keep_owner: it belongs to whom the one that it replaces belongs; False where others may have put that there.
    """
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        if keep_owner and path.exists() and os.geteuid() == 0:
            old = path.stat()
            os.fchown(file.fileno(), old.st_uid, old.st_gid)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _who() -> str:
    """Who asked: the person behind sudo, where there is one."""
    return os.environ.get("SUDO_USER") or f"uid {os.getuid()}"


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - BACK_DATED).not_valid_after(now + timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def utc_now() -> datetime:
    """To the second, as certificates have it."""
    return datetime.now(UTC).replace(microsecond=0)
