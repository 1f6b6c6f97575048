// Checks names, item names and values by the rules of the API server. Each check returns a message, or null.

const MAX_VALUES_LENGTH = 1024 * 1024;

// The items that each type of Secret requires.
const TYPES = {
    "Opaque": [],
    "kubernetes.io/tls": ["tls.crt", "tls.key"],
    "kubernetes.io/dockerconfigjson": [".dockerconfigjson"],
    "kubernetes.io/basic-auth": ["username", "password"],
    "kubernetes.io/ssh-auth": ["ssh-privatekey"],
};
// The type of which one required item is enough.
const BASIC_AUTH = "kubernetes.io/basic-auth";

function objectNameProblem(name) {
    if (name === "") {
        return "Enter the name of the Secret.";
    }
    const isValid = name.length <= 253 && name.split(".").every(isDnsLabel);
    return isValid ? null : "Use at most 253 lowercase letters, digits, “-” and “.”, with a letter or digit at both "
        + "ends of each part between dots.";
}

function namespaceProblem(namespace) {
    if (namespace === "") {
        return "Enter the namespace of the Secret.";
    }
    const isValid = namespace.length <= 63 && isDnsLabel(namespace);
    return isValid ? null : "Use at most 63 lowercase letters, digits and “-”, with a letter or digit at both ends.";
}

function isDnsLabel(label) {
    return /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(label);
}

function itemNameProblem(key) {
    if (key === "") {
        return "Enter the name of the item.";
    }
    const isValid = /^[A-Za-z0-9._-]{1,253}$/.test(key) && key !== "." && !key.startsWith("..");
    return isValid ? null : "Use at most 253 letters, digits, “-”, “_” and “.”, and no “..” at the beginning.";
}

function lengthProblem(length) {
    return length > MAX_VALUES_LENGTH ? `This is ${size(length)}; a Secret has at most 1 MiB.` : null;
}

// Checks a value against the type of its Secret. No message quotes the value.
function valueProblem(type, key, bytes) {
    if (type === "kubernetes.io/tls" && key.startsWith("tls.")) {
        const kind = key === "tls.crt" ? "CERTIFICATE-----" : "PRIVATE KEY-----";
        const noun = key === "tls.crt" ? "certificate" : "private key";
        return contains(bytes, kind) ? null : `This is not a ${noun} in PEM.`;
    }
    if (type === "kubernetes.io/dockerconfigjson" && key === ".dockerconfigjson") {
        return isJsonObject(bytes) ? null : "This is not a JSON object.";
    }
    return null;
}

function contains(bytes, text) {
    const wanted = new TextEncoder().encode(text);
    return bytes.some((_, start) => wanted.every((byte, i) => bytes[start + i] === byte));
}

function isJsonObject(bytes) {
    try {
        const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
        return typeof value === "object" && value !== null && !Array.isArray(value);
    } catch {
        return false;
    }
}

// Formats a number of bytes, rounded up to one decimal place.
function size(length) {
    const [unit, divisor] = length < 1024 * 1024 ? ["KiB", 1024] : ["MiB", 1024 * 1024];
    return length < 1024 ? `${length} bytes` : `${(Math.ceil(length / divisor * 10) / 10).toFixed(1)} ${unit}`;
}
