"""What machines are told of a film: that a model made it, by IPTC's name, and signed (C2PA) where a host can.

Article 50 of the European AI Act asks for such a mark. Every film that is written has the first one; the
second needs `pip install c2pa-python` and a certificate, named by MF_C2PA_CERTIFICATE and MF_C2PA_KEY.
"""

from __future__ import annotations

import importlib.util
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's name for media that a trained model made."""
XMP = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac")
"""What marks the box of an MP4 that holds XMP (ISO 16684-3)."""
PACKET = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"
 xmp:CreatorTool="mutual-forcing"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>""".encode()
"""XMP that says so: at the end of every film, and at the start of every stream."""
_ALGORITHMS = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")
_MANIFEST = {
    "claim_generator_info": [{"name": "mutual-forcing"}],
    "title": "AI-generated talking character",
    "assertions": [
        {
            "label": "c2pa.actions",
            "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE}]},
        }
    ],
}


@dataclass(frozen=True)
class Certificate:
    """What films are signed with: PEM files of a certificate chain and of its private key."""

    chain: Path
    key: Path
    algorithm: str = "es256"

    @staticmethod
    def from_environment(environment: Mapping[str, str] | None = None) -> Certificate | None:
        """Read MF_C2PA_CERTIFICATE, MF_C2PA_KEY and MF_C2PA_ALGORITHM; None if no certificate is named.

        Raises ValueError with the variable's name for what cannot be used.
        """
        values = os.environ if environment is None else environment
        chain, key = values.get("MF_C2PA_CERTIFICATE", ""), values.get("MF_C2PA_KEY", "")
        if not chain and not key:
            return None
        for name, path in (("MF_C2PA_CERTIFICATE", chain), ("MF_C2PA_KEY", key)):
            if not Path(path).is_file():
                raise ValueError(f"{name} must name a PEM file, not {path!r}.")
        algorithm = values.get("MF_C2PA_ALGORITHM", "es256").lower()
        if algorithm not in _ALGORITHMS:
            raise ValueError(f"MF_C2PA_ALGORITHM must be one of: {', '.join(_ALGORITHMS)}.")
        if importlib.util.find_spec("c2pa") is None:
            raise ValueError("MF_C2PA_CERTIFICATE needs a package: pip install c2pa-python.")
        return Certificate(Path(chain), Path(key), algorithm)


def check() -> None:
    """Raise ValueError, in one sentence, if a certificate is configured with which no film can be signed."""
    certificate = Certificate.from_environment()
    if certificate:
        _signer(certificate).close()


def mark(path: Path) -> None:
    """Mark a finished MP4 as made by a model, and sign it where a certificate is configured.

    Raises ValueError or OSError where the certificate cannot be used.
    """
    with path.open("ab") as film:
        film.write(struct.pack(">I4s", 24 + len(PACKET), b"uuid") + XMP.bytes + PACKET)
    certificate = Certificate.from_environment()
    if certificate:
        _sign(path, certificate)


def _signer(certificate: Certificate) -> Any:
    from c2pa import C2paError, C2paSignerInfo, Signer  # pyright: ignore[reportMissingImports] # optional

    chain, key = certificate.chain.read_bytes(), certificate.key.read_bytes()
    try:
        return Signer.from_info(C2paSignerInfo(certificate.algorithm, chain, key, None))
    except C2paError as error:
        raise ValueError(f"Films cannot be signed with MF_C2PA_CERTIFICATE: {error}") from error


def _sign(path: Path, certificate: Certificate) -> None:
    from c2pa import Builder, C2paError  # pyright: ignore[reportMissingImports] # optional

    signed = path.with_name(f"{path.stem}-signed.mp4")
    try:
        with _signer(certificate) as signer, Builder.from_json(_MANIFEST) as builder:
            builder.sign_file(path, signed, signer)
    except C2paError as error:
        raise ValueError(f"The film cannot be signed: {error}") from error
    signed.replace(path)
