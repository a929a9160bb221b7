"""A private certificate authority, and the certificates that it has signed for servers and for clients."""

import ssl
import subprocess


class _Signed:
    def __init__(self, folder, name):
        self.cert = folder / f"{name}.pem"
        self.key = folder / f"{name}-key.pem"


class Certificates:
    def __init__(self, folder):
        self._folder = folder / "certificates"
        self._folder.mkdir()
        self.ca = self._folder / "ca.pem"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", "/CN=private CA", "-keyout", self._folder / "ca-key.pem", "-out", self.ca),
        )
        # The servers connect to each other, so theirs is for both sides.
        self.server = self._sign("server", "subjectAltName=IP:127.0.0.1")
        self.client = self._sign("gateway", "extendedKeyUsage=clientAuth")

    def _sign(self, name, extension):
        made = _Signed(self._folder, name)
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(extension + "\n")
        _openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", made.key, "-out", request),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._folder / "ca-key.pem", "-CAcreateserial"),
            *("-days", "2", "-extfile", extensions, "-out", made.cert),
        )
        return made

    def context(self):
        """For a client with the gateway's certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.client.cert, self.client.key)
        return context


def _openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
