// Seals values in the format v1, and creates random values.

// The annotation of the SealedSecret that declares each scope; null for none.
const SCOPE_ANNOTATIONS = {
    "strict": null,
    "namespace-wide": "sealedsecrets.bitnami.com/namespace-wide",
    "cluster-wide": "sealedsecrets.bitnami.com/cluster-wide",
};
const HINTS_ANNOTATION = "sealedsecrets.bitnami.com/key-hints";

const ALPHABETS = {
    "letters-digits": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
    "symbols": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%()*+,-./:;=?@[]^_{}~",
    "hex": "0123456789abcdef",
};

// Returns the OAEP label, which determines where the value can be unsealed.
function labelOf({ scope, namespace, name }) {
    return { "strict": `${namespace}/${name}`, "namespace-wide": namespace, "cluster-wide": "" }[scope];
}

// Seals one value: the length of the encrypted session key in two bytes, the session key encrypted with RSA-OAEP and
// the label, and the value encrypted with AES-GCM. The nonce is zero, because each session key encrypts one value.
// Returns Base64.
async function sealValue(spki, label, value) {
    const rsa = await crypto.subtle.importKey("spki", spki, { name: "RSA-OAEP", hash: "SHA-256" }, false, ["wrapKey"]);
    const session = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt"]);
    const oaep = { name: "RSA-OAEP", label: new TextEncoder().encode(label) };
    const wrapped = new Uint8Array(await crypto.subtle.wrapKey("raw", session, rsa, oaep));
    const gcm = { name: "AES-GCM", iv: new Uint8Array(12) };
    const encrypted = new Uint8Array(await crypto.subtle.encrypt(gcm, session, value));
    const sealed = new Uint8Array(2 + wrapped.length + encrypted.length);
    new DataView(sealed.buffer).setUint16(0, wrapped.length);
    sealed.set(wrapped, 2);
    sealed.set(encrypted, 2 + wrapped.length);
    return base64Of(sealed);
}

// Returns random characters. A byte that would prefer some characters over others is replaced by another one.
function randomValue(length, alphabet) {
    const characters = ALPHABETS[alphabet];
    const limit = 256 - 256 % characters.length;
    const value = new Uint8Array(length);
    const byte = new Uint8Array(1);
    for (let i = 0; i < length;) {
        crypto.getRandomValues(byte);
        if (byte[0] < limit) {
            value[i] = characters.charCodeAt(byte[0] % characters.length);
            i += 1;
        }
    }
    return value;
}
