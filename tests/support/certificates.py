"""Creates certificates for tests of TLS: a certification authority and its certificates, as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Name = x509.DNSName | x509.IPAddress
DAY = datetime.timedelta(days=1)


class Authority:
    """A certification authority, with its certificate at *path*.

    :param signer: the authority that signs its certificate; None: itself.
    """

    def __init__(
        self, path: Path, name: str = "txmicro test authority", signer: Authority | None = None
    ) -> None:
        self.path = path
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key()
        builder = (
            _builder(self._name, public, datetime.datetime.now(datetime.UTC))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        self.certificate = (signer or self).sign(builder)
        path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """Sign the certificate that *builder* describes, and return it."""
        return builder.issuer_name(self._name).sign(self._key, hashes.SHA256())

    def issue(
        self,
        path: Path,
        name: str,
        *hosts: str,
        server: bool = False,
        days_ago: int = 0,
    ) -> int:
        """Write a certificate for *name*, valid for 30 days, and its key to the end of the same file.

        Return its serial number. *hosts* are its host names and addresses. *days_ago* is the age of its start of
        validity.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        since = datetime.datetime.now(datetime.UTC) - days_ago * DAY
        builder = _builder(_name(name), key.public_key(), since).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if hosts:
            names = [_host(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = self.sign(builder)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
        return certificate.serial_number


def _builder(
    name: x509.Name, key: ec.EllipticCurvePublicKey, since: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since - DAY)
        .not_valid_after(since + 30 * DAY)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(host: str) -> Name:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
