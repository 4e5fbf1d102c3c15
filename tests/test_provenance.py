"""Films say to machines that a model made them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import app
from mutual_forcing import provenance
from mutual_forcing.chunks import SAMPLES_PER_CHUNK
from mutual_forcing.demo import cage
from mutual_forcing.media import StreamMuxer, read_audio, read_comment, write_mp4

FIELD = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def film(path: Path) -> Path:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (16, 64, 64, 3), dtype=np.uint8)
    write_mp4(
        path,
        [(frames, 0.1 * rng.standard_normal(SAMPLES_PER_CHUNK).astype(np.float32))],
        {"text": "Hi."},
    )
    return path


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """The boxes of an MP4, from its first byte to its last."""
    found, at = [], 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        assert 8 <= size <= len(data) - at, "a box that ends beyond the file"
        found.append((kind, data[at + 8 : at + size]))
        at += size
    return found


def test_a_film_names_its_digital_source_type(tmp_path):
    path = film(tmp_path / "film.mp4")
    found = boxes(path.read_bytes())
    assert [kind for kind, _ in found][:2] == [b"ftyp", b"moov"], "it still starts at once"
    packets = [
        body[16:] for kind, body in found if kind == b"uuid" and body[:16] == provenance.XMP.bytes
    ]
    assert len(packets) == 1
    (described,) = ElementTree.fromstring(packets[0].decode()).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    assert described.get(FIELD) == provenance.SOURCE_TYPE
    assert provenance.SOURCE_TYPE.endswith("/digitalsourcetype/trainedAlgorithmicMedia")
    # Readers of films are not disturbed, the one for strangers' files among them.
    assert read_comment(path) == cage.read_comment(path) and '"Hi."' in read_comment(path)
    assert len(read_audio(path)) > 9000
    shown = subprocess.run(
        ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v", "-of", "csv=p=0",
         "-show_entries", "stream=nb_read_frames", str(path)],
        capture_output=True, text=True, check=True,
    ) if shutil.which("ffprobe") else None  # fmt: skip
    assert shown is None or (shown.stdout.strip(" ,\n"), shown.stderr) == ("16", "")


def test_a_certificate_that_cannot_be_used_ends_the_program(tmp_path, monkeypatch, capsys):
    (tmp_path / "chain.pem").write_text("no certificate")
    for variables, sentence in (
        ({"MF_C2PA_KEY": "/nowhere"}, "MF_C2PA_CERTIFICATE must name a PEM file, not ''."),
        (
            {"MF_C2PA_CERTIFICATE": str(tmp_path / "chain.pem")},
            "MF_C2PA_KEY must name a PEM file, not ''.",
        ),
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            assert app.main([]) == 1
            assert capsys.readouterr().err == f"app.py: {sentence}\n"
    both = {
        "MF_C2PA_CERTIFICATE": str(tmp_path / "chain.pem"),
        "MF_C2PA_KEY": str(tmp_path / "chain.pem"),
    }
    with pytest.raises(ValueError, match="MF_C2PA_ALGORITHM must be one of: es256"):
        provenance.Certificate.from_environment({**both, "MF_C2PA_ALGORITHM": "rot13"})
    assert provenance.Certificate.from_environment({}) is None


def test_a_stream_says_so_before_its_first_picture():
    """Whoever records what the player is sent has the mark, too."""
    header = StreamMuxer(64, 64).header
    (moov,) = [body for kind, body in boxes(header) if kind == b"moov"]
    (about,) = [body for kind, body in boxes(moov) if kind == b"udta"]
    ((kind, packet),) = boxes(about)
    assert kind == b"XMP_" and provenance.SOURCE_TYPE in packet.decode()


CERTIFICATES = """set -e
openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -subj "/O=Test/CN=Test CA" -days 30 -out ca.pem \
  -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign"
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out key.pem
openssl req -new -key key.pem -subj "/O=Test/CN=Test Signer" -out request
printf "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
extendedKeyUsage=emailProtection\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n" > extensions
openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out own.pem \
  -extfile extensions
cat own.pem ca.pem > chain.pem
"""


def test_a_film_is_signed_where_there_is_a_certificate(tmp_path, monkeypatch):
    c2pa = pytest.importorskip("c2pa", reason="pip install c2pa-python")
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    subprocess.run(["sh", "-c", CERTIFICATES], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setenv("MF_C2PA_CERTIFICATE", str(tmp_path / "chain.pem"))
    monkeypatch.setenv("MF_C2PA_KEY", str(tmp_path / "key.pem"))
    provenance.check()
    path = film(tmp_path / "film.mp4")
    with c2pa.Reader(str(path)) as reader:
        said = reader.json()
    assert provenance.SOURCE_TYPE in said and "Test Signer" in said
    assert "assertion.bmffHash.match" in said and "bmffHash.mismatch" not in said
    assert '"Hi."' in read_comment(path)
    monkeypatch.setenv("MF_C2PA_KEY", str(tmp_path / "ca.pem"))
    with pytest.raises(ValueError, match="Films cannot be signed"):
        provenance.check()
