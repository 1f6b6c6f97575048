// Reads the certificate that values are sealed for.

// A message for the user about one field.
class InputError extends Error {}

const PRIVATE_KEY = "This is a private key, which must be kept secret. Use the certificate instead.";
// The object identifier 1.2.840.113549.1.1.1, rsaEncryption.
const RSA_ENCRYPTION = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const [MIN_BITS, MAX_BITS] = [2048, 8192];
const MAX_CERTIFICATE_LENGTH = 64 * 1024;
const PEM_BLOCK = /^-----BEGIN CERTIFICATE-----$([^-:]*)^-----END CERTIFICATE-----$/gm;

// Returns the certificate in PEM text, with its fingerprint. Throws an InputError that explains what the text is
// instead.
async function readCertificate(pem) {
    const der = derOf(pem);
    try {
        const certificate = parseCertificate(der);
        return { ...certificate, fingerprint: await fingerprint(certificate) };
    } catch (error) {
        if (error instanceof DerError) {
            throw new InputError("This certificate is malformed, truncated or changed. Copy the whole file again.");
        }
        throw error;
    }
}

// Returns the bytes of the only certificate in PEM text.
function derOf(pem) {
    if (/PRIVATE KEY-----|tls\.key|AGE-SECRET-KEY-|seal2-key /.test(pem)) {
        throw new InputError(PRIVATE_KEY);
    }
    if (pem.length > MAX_CERTIFICATE_LENGTH) {
        throw new InputError("This is too long for a certificate.");
    }
    const blocks = [...pem.replace(/\r\n?/g, "\n").replace(/[ \t]+$/gm, "").matchAll(PEM_BLOCK)];
    if (blocks.length > 1) {
        throw new InputError(`These are ${blocks.length} certificates. Use only the one of the controller.`);
    }
    if (blocks.length === 0) {
        throw new InputError(whyNoCertificate(pem));
    }
    try {
        return bytesOfBase64(blocks[0][1].replace(/\n/g, ""));
    } catch {
        throw new InputError("This certificate is malformed: its text is not Base64. Copy the whole file again.");
    }
}

function whyNoCertificate(text) {
    if (text.trim() === "") {
        return "Paste the certificate of the controller, or open its file.";
    }
    if (/^\s*(seal2-recipient |age1)/.test(text)) {
        return "This is a key for the format v2. This page seals for a certificate (v1) only.";
    }
    if (/CERTIFICATE REQUEST-----/.test(text)) {
        return "This is a signing request. Use the certificate that was issued for it.";
    }
    if (/PUBLIC KEY-----/.test(text)) {
        return "This is a public key. Use the certificate, which contains the public key.";
    }
    if (/-----(BEGIN|END) CERTIF/.test(text)) {
        return "This certificate is incomplete. Copy the whole file, from “-----BEGIN” to “-----END CERTIFICATE-----”.";
    }
    return "This is not a certificate: one begins with “-----BEGIN CERTIFICATE-----”.";
}

// Walks through an X.509 certificate (RFC 5280, section 4.1), and returns its RSA key and validity. Names, extensions
// and the signature have no effect on sealing: users trust the certificate by its fingerprint.
function parseCertificate(der) {
    const outer = new Fields(der);
    const certificate = outer.enter(TAG.sequence);
    outer.end();
    const body = certificate.enter(TAG.sequence);
    certificate.read(TAG.sequence); // signature algorithm
    certificate.read(TAG.bitString); // signature
    certificate.end();

    body.skip(TAG.version);
    body.read(TAG.integer); // serial number
    body.read(TAG.sequence); // signature algorithm
    body.read(TAG.sequence); // issuer
    const validity = body.enter(TAG.sequence);
    const [notBefore, notAfter] = [instant(validity), instant(validity)];
    validity.end();
    body.read(TAG.sequence); // subject
    const start = body.position;
    const key = rsaKey(body.enter(TAG.sequence));
    const spki = body.bytes.slice(start, body.position);
    body.skip(TAG.issuerId);
    body.skip(TAG.subjectId);
    body.skip(TAG.extensions);
    body.end();
    return { ...key, spki, notBefore, notAfter };
}

// Returns modulus and exponent in a SubjectPublicKeyInfo.
function rsaKey(info) {
    const algorithm = info.enter(TAG.sequence);
    const identifier = algorithm.read(TAG.objectIdentifier);
    if (identifier.length !== RSA_ENCRYPTION.length || identifier.some((byte, i) => byte !== RSA_ENCRYPTION[i])) {
        throw new InputError("This certificate has no RSA key. Use the certificate of the controller.");
    }
    if (algorithm.read(TAG.null).length !== 0) {
        throw new DerError();
    }
    algorithm.end();
    const bits = info.read(TAG.bitString);
    info.end();
    if (bits[0] !== 0) {
        throw new DerError();
    }
    const outer = new Fields(bits.subarray(1));
    const key = outer.enter(TAG.sequence);
    outer.end();
    const [modulus, exponent] = [positiveInteger(key.read(TAG.integer)), positiveInteger(key.read(TAG.integer))];
    key.end();
    checkRsa(modulus, exponent);
    return { modulus, exponent, bits: bitLength(modulus) };
}

function checkRsa(modulus, exponent) {
    const bits = bitLength(modulus);
    if (bits < MIN_BITS || bits > MAX_BITS) {
        throw new InputError(`The key has ${bits} bits; ${MIN_BITS} to ${MAX_BITS} bits are supported.`);
    }
    if (!isOdd(modulus)) {
        throw new DerError();
    }
    if (!isOdd(exponent) || bitLength(exponent) < 2 || bitLength(exponent) > 33) {
        throw new InputError("The key has an unsupported public exponent; 65537 is usual.");
    }
}

function isOdd(number) {
    return number.at(-1) % 2 === 1;
}

function bitLength(number) {
    return number.length * 8 - (Math.clz32(number[0]) - 24);
}

// Returns the fingerprint that `seal cert show` and `ssh-keygen -l` print: SHA-256 over the SSH encoding of the key.
async function fingerprint({ modulus, exponent }) {
    const wire = [new TextEncoder().encode("ssh-rsa"), signed(exponent), signed(modulus)].flatMap(lengthPrefixed);
    const hash = await crypto.subtle.digest("SHA-256", Uint8Array.from(wire));
    return `SHA256:${base64Of(new Uint8Array(hash)).replace(/=+$/, "")}`;
}

// Adds a zero byte to a number whose highest bit is set, which would otherwise be negative.
function signed(number) {
    return number[0] >= 0x80 ? [0, ...number] : [...number];
}

function lengthPrefixed(bytes) {
    const length = bytes.length;
    return [length >>> 24, (length >>> 16) & 255, (length >>> 8) & 255, length & 255, ...bytes];
}

// Returns the bytes of Base64 in its only canonical form.
function bytesOfBase64(text) {
    const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
    if (base64Of(bytes) !== text) {
        throw new DerError();
    }
    return bytes;
}

function base64Of(bytes) {
    const CHUNK = 0x8000;
    let text = "";
    for (let start = 0; start < bytes.length; start += CHUNK) {
        text += String.fromCharCode(...bytes.subarray(start, start + CHUNK));
    }
    return btoa(text);
}
