"""TLS to a broker: verification of its certificate, and our own certificate.

The files are read for each connection, so that a renewed certificate is used from the next one on. Ciphers are
Twisted's choice, versions are 1.2 and later. OpenSSL verifies the chain and the dates of a broker's certificate,
and RFC 6125 is followed for its name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from twisted.internet import ssl
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from txmicro.amqp.errors import BadCertificate, TlsError, WrongHost
from txmicro.amqp.uri import BrokerAddress

# X509_V_ERR_… of OpenSSL's x509_vfy.h, in words: pyOpenSSL does not give OpenSSL's own texts.
PROBLEMS: Final = {
    7: "has an invalid signature",
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed and not trusted",
    19: "is signed by an unknown certificate authority",
    20: "is signed by an unknown certificate authority",
    21: "is signed by an unknown certificate authority",
    23: "is revoked",
    26: "is not a server certificate",
}

Callback = Callable[[SSL.Connection, crypto.X509, int, int, int], bool]


@implementer(IStreamClientEndpoint)
class TlsEndpoint:
    """Connects through *endpoint* with TLS, with the options of *broker*.

    :param clock: the reactor, as far as time goes.
    :raise TlsError: the certificate files cannot be used.
    """

    def __init__(self, endpoint: Any, broker: BrokerAddress, clock: Any) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._broker = broker
        Connections(broker)

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Connect as the interface says; fails with :class:`TlsError` while the certificate files cannot be used.

        Fires before the TLS handshake. A failure of that is the reason that the protocol's connectionLost gets.
        """
        try:
            connections: Any = Connections(self._broker)
        except TlsError:
            return fail()
        tls = TLSMemoryBIOFactory(connections, True, factory, self._clock)
        tls.noisy = False
        connected: Deferred[Any] = self._endpoint.connect(tls)
        return connected.addCallback(lambda outer: outer.wrappedProtocol)


@implementer(IOpenSSLClientConnectionCreator)
class Connections:
    """Begins TLS connections to *broker*, with the present content of its certificate files.

    :raise TlsError: the files cannot be used.
    """

    def __init__(self, broker: BrokerAddress) -> None:
        self._verify = broker.verify
        self._host = (broker.server_name or broker.host).encode("idna").decode()
        options: dict[str, Any] = {"raiseMinimumTo": ssl.TLSVersion.TLSv1_2}
        if broker.files.cert:
            options |= _identity(broker.files.cert, broker.files.key)
        if broker.verify:
            options["trustRoot"] = _trusted(broker.files.ca)
        try:
            self._context = ssl.CertificateOptions(**options).getContext()
        except SSL.Error as error:
            raise TlsError(
                f"the private key in {broker.files.key} does not belong to the certificate in {broker.files.cert}"
            ) from error

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Return the TLS connection for *protocol*, as the interface says."""
        connection = SSL.Connection(self._context, None)
        if not _is_ip(self._host):  # RFC 6066: server names only, no addresses
            connection.set_tlsext_host_name(self._host.encode())
        if self._verify:
            connection.set_verify(SSL.VERIFY_PEER, verifier(self._host, protocol.failVerification))
        return connection


def verifier(host: str, refuse: Callable[[Failure], object]) -> Callback:
    """Return the callback that OpenSSL calls for each certificate of a chain; *refuse* gets the reason of a failure."""
    identity = IPAddress_ID(host) if _is_ip(host) else DNS_ID(host)

    def verify(_connection: SSL.Connection, shown: crypto.X509, code: int, depth: int, ok: int) -> bool:
        certificate = shown.to_cryptography()
        try:
            if not ok:
                problem = PROBLEMS.get(code, f"is not accepted (OpenSSL verification error {code})")
                raise BadCertificate(f"the broker's certificate {problem}: {_name(certificate)}")
            if depth == 0:
                verify_service_identity(extract_patterns(certificate), [identity], [])
        except BadCertificate:
            refuse(Failure())
            return False
        except Exception as error:  # also a certificate with names that cannot be read
            refuse(Failure(_wrong_host(host, certificate, error)))
            return False
        return True

    return verify


def _wrong_host(host: str, certificate: Certificate, error: Exception) -> WrongHost:
    why = "" if isinstance(error, VerificationError) else f" ({error})"
    return WrongHost(f"the broker's certificate is not for {host}, but for {_name(certificate)}{why}")


def _name(certificate: Certificate) -> str:
    return certificate.subject.rfc4514_string()[:200]


def _is_ip(host: str) -> bool:
    return isIPAddress(host) or isIPv6Address(host)


# Files


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TlsError(f"cannot read {path}: {error.strerror}") from error


def _certificates(path: str) -> list[crypto.X509]:
    try:
        return [crypto.X509.from_cryptography(each) for each in load_pem_x509_certificates(_read(path))]
    except ValueError as error:
        raise TlsError(f"{path} does not contain a PEM certificate: {error}") from error


def _identity(cert: str, key: str) -> dict[str, Any]:
    """Return our certificate, the intermediate ones, and the private key, for CertificateOptions."""
    certificate, *chain = _certificates(cert)
    try:
        private: Any = load_pem_private_key(_read(key), password=None)
    except (ValueError, TypeError) as error:  # the latter: it is encrypted
        raise TlsError(f"{key} does not contain an unencrypted PEM private key: {error}") from error
    own = {"certificate": certificate, "privateKey": crypto.PKey.from_cryptography_key(private)}
    return {**own, "extraCertChain": chain}


def _trusted(path: str) -> Any:
    """Return the CA certificates to verify with: those in *path*, or the system's."""
    if not path:
        return ssl.platformTrust()
    return ssl.trustRootFromCertificates([ssl.Certificate(each) for each in _certificates(path)])
